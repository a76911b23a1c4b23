// SPDX-License-Identifier: Apache-2.0
//! Lets the program begin where it can still execute itself anew at little cost (`ctr_sys::early`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The linker's, in an optimised build (scripts/build.d/cc-ordered).
    println!("cargo::rerun-if-changed=functions.order");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ARCH") == "x86_64" && target("OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=ctr_sys_start");
    }
}
