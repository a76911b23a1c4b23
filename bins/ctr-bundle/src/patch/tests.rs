// SPDX-License-Identifier: Apache-2.0
//! The examples of the two specifications.

use serde_json::json;

use super::*;

fn patched(mut document: Value, patch: Value) -> Result<Value, String> {
    let change = Patch::parse(patch.to_string().as_bytes())?;
    let patch = Patch { path: "p".into(), change };
    patch.apply(&mut document).map_err(|error| error.to_line())?;
    Ok(document)
}

// RFC 7386, appendix A. What merges a value that is no object is tested one level down: as a file, a
// merge patch is always an object.
#[test]
fn merges_as_rfc_7386_shows() {
    for (original, patch, result) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        let (original, patch, result) = (json!({"m": original}), json!({"m": patch}), json!({"m": result}));
        let expected = if result["m"].is_null() { json!({}) } else { result };
        assert_eq!(patched(original, patch.clone()).unwrap(), expected, "{patch}");
    }
}

// RFC 6902, appendix A.
#[test]
fn patches_as_rfc_6902_shows() {
    for (document, operation, result) in [
        (
            json!({"foo": "bar"}),
            json!({"op": "add", "path": "/baz", "value": "qux"}),
            json!({"baz": "qux", "foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "baz"]}),
            json!({"op": "add", "path": "/foo/1", "value": "qux"}),
            json!({"foo": ["bar", "qux", "baz"]}),
        ),
        (json!({"baz": "qux", "foo": "bar"}), json!({"op": "remove", "path": "/baz"}), json!({"foo": "bar"})),
        (
            json!({"foo": ["bar", "qux", "baz"]}),
            json!({"op": "remove", "path": "/foo/1"}),
            json!({"foo": ["bar", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!({"op": "replace", "path": "/baz", "value": "boo"}),
            json!({"baz": "boo", "foo": "bar"}),
        ),
        (
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            json!({"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}),
            json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
        ),
        (
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            json!({"op": "move", "from": "/foo/1", "path": "/foo/3"}),
            json!({"foo": ["all", "cows", "eat", "grass"]}),
        ),
        (
            json!({"foo": "bar"}),
            json!({"op": "add", "path": "/child", "value": {"grandchild": {}}}),
            json!({"foo": "bar", "child": {"grandchild": {}}}),
        ),
        (
            json!({"foo": "bar"}),
            json!({"op": "add", "path": "/baz", "value": "qux", "xyz": 123}),
            json!({"foo": "bar", "baz": "qux"}),
        ),
        (
            json!({"foo": ["bar"]}),
            json!({"op": "add", "path": "/foo/-", "value": ["abc", "def"]}),
            json!({"foo": ["bar", ["abc", "def"]]}),
        ),
        (json!({"/": 9, "~1": 10}), json!({"op": "test", "path": "/~01", "value": 10}), json!({"/": 9, "~1": 10})),
        (json!({"foo": 1}), json!({"op": "test", "path": "/foo", "value": 1.0}), json!({"foo": 1})),
        (
            json!({"a": {"b": 1}}),
            json!({"op": "copy", "from": "/a", "path": "/c"}),
            json!({"a": {"b": 1}, "c": {"b": 1}}),
        ),
        (json!({"a": 1}), json!({"op": "replace", "path": "", "value": {"b": 2}}), json!({"b": 2})),
    ] {
        assert_eq!(patched(document, json!([operation.clone()])).unwrap(), result, "{operation}");
    }
    let both = json!([
        {"op": "test", "path": "/baz", "value": "qux"},
        {"op": "test", "path": "/foo/1", "value": 2},
    ]);
    assert!(patched(json!({"baz": "qux", "foo": ["a", 2, "c"]}), both).is_ok());
}

#[test]
fn a_patch_that_does_not_fit_says_which_operation() {
    let document = || json!({"baz": "qux", "foo": ["bar"], "/": 9, "~1": 10});
    for operation in [
        json!({"op": "test", "path": "/baz", "value": "bar"}),
        json!({"op": "test", "path": "/~01", "value": "10"}),
        json!({"op": "add", "path": "/nothing/bat", "value": "qux"}),
        json!({"op": "add", "path": "/foo/2", "value": "x"}),
        json!({"op": "add", "path": "/foo/00", "value": "x"}),
        json!({"op": "add", "path": "/baz/x", "value": "x"}),
        json!({"op": "add", "path": "foo", "value": "x"}),
        json!({"op": "add", "path": "/~2", "value": "x"}),
        json!({"op": "remove", "path": "/foo/-"}),
        json!({"op": "remove", "path": "/foo/1"}),
        json!({"op": "replace", "path": "/bar", "value": 1}),
        json!({"op": "move", "from": "/foo", "path": "/foo/0"}),
        json!({"op": "copy", "from": "/bar", "path": "/x"}),
    ] {
        let patch = json!([{"op": "test", "path": "/baz", "value": "qux"}, operation.clone()]);
        let error = patched(document(), patch).expect_err(&operation.to_string());
        assert!(error.starts_with("the patch p does not apply: operation 2: "), "{error}");
    }
}

#[test]
fn what_is_no_patch_is_refused() {
    for text in ["", "1", "null", "[1]", r#"[{"op": "add", "path": "/a"}]"#, r#"[{"op": "frob", "path": "/a"}]"#] {
        assert!(Patch::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn members_keep_their_order() {
    let document = json!({"a": 1, "b": 2, "c": 3});
    let text = |value: Value| value.to_string();
    assert_eq!(text(patched(document.clone(), json!({"a": null})).unwrap()), r#"{"b":2,"c":3}"#);
    assert_eq!(text(patched(document, json!([{"op": "remove", "path": "/a"}])).unwrap()), r#"{"b":2,"c":3}"#);
}
