// SPDX-License-Identifier: Apache-2.0
//! `WWW-Authenticate` headers: what a registry wants to see before it answers (RFC 9110, section 11).

/// One challenge: a scheme and its parameters.
#[derive(Debug, PartialEq)]
pub(crate) struct Challenge {
    /// The scheme in lower case.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; `name` is in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads every challenge of one header. What cannot be read ends the list.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = Cursor { text: header };
    loop {
        rest.skip(" \t,");
        let word = rest.token();
        if word.is_empty() {
            return challenges;
        }
        match challenges.last_mut() {
            Some(challenge) if rest.take_equals() => match rest.value() {
                Some(value) => challenge.parameters.push((word.to_ascii_lowercase(), value)),
                None => return challenges,
            },
            _ => challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() }),
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, what: &str) {
        self.text = self.text.trim_start_matches(|c| what.contains(c));
    }

    fn token(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
        let end = self.text.find(|c| !is_token(c)).unwrap_or(self.text.len());
        let (token, rest) = self.text.split_at(end);
        self.text = rest;
        token
    }

    fn take_equals(&mut self) -> bool {
        let after = self.text.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(rest) => {
                self.text = rest.trim_start_matches([' ', '\t']);
                true
            }
            None => false,
        }
    }

    // A token, or a quoted string in which commas and escaped quotes are plain characters. The
    // padding of a token68 ("Negotiate abc==") reads as an empty value.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.text.strip_prefix('"') else {
            let value = self.token().to_owned();
            self.skip("=");
            return Some(value);
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.text = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quoted_parameters_with_commas() {
        let challenges = parse(
            r#"Bearer realm="https://a.example/t",service=r.example ,Scope="repository:a/b:pull,push", x="q\"q""#,
        );
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("realm"), Some("https://a.example/t"));
        assert_eq!(challenges[0].parameter("service"), Some("r.example"));
        assert_eq!(challenges[0].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenges[0].parameter("x"), Some("q\"q"));
    }

    #[test]
    fn reads_several_challenges() {
        let schemes: Vec<String> = parse(r#"Negotiate abc==, Basic realm="a, b", BEARER realm="c", Digest"#)
            .into_iter()
            .map(|challenge| challenge.scheme)
            .collect();
        assert!(schemes.contains(&"basic".to_owned()) && schemes.contains(&"bearer".to_owned()), "{schemes:?}");
        assert_eq!(schemes.last().unwrap(), "digest");
    }

    #[test]
    fn garbage_ends_the_list() {
        for text in ["", "\"", "Bearer realm=\"open", "Basic \u{7f}", "=,=", "Bearer realm=\"\\"] {
            assert!(parse(text).iter().all(|challenge| challenge.parameter("realm").is_none()), "{text}");
        }
    }
}
