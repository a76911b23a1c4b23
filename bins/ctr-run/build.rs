// SPDX-License-Identifier: Apache-2.0
//! Lets the program begin where it can still execute itself anew at little cost (`ctr_sys::early`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // An optimised build has its functions in that order (scripts/build).
    println!("cargo::rerun-if-changed=functions.order");
    println!("cargo::rerun-if-changed=../../scripts/build.d/cc-ordered");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ARCH") == "x86_64" && target("OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=ctr_sys_start");
    }
}
