//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1): extensions and their parameters.

use crate::http;

/// A header value that is not an extension list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidExtensionList;

/// One extension of a list, its parameters not yet looked at but known to be well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extension<'a> {
    pub(crate) name: &'a str,
    /// What follows the name, from the first `;` on.
    params: &'a str,
}

/// One parameter of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Option<ParamValue<'a>>,
}

/// The value of a parameter: a token, or a quoted string with a token in it (RFC 6455 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParamValue<'a> {
    /// Without the quotes, but still with the backslashes.
    escaped: &'a str,
}

/// The extensions in the value of one header field. An error ends the list.
///
/// Empty elements are skipped, as RFC 9110 §5.6.1.2 asks of a recipient.
pub(crate) fn extensions(value: &str) -> impl Iterator<Item = Result<Extension<'_>, InvalidExtensionList>> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = trim_start(rest?).trim_start_matches([',', ' ', '\t']);
        if text.is_empty() {
            rest = None;
            return None;
        }
        match take_extension(text) {
            Some((extension, after)) => {
                rest = Some(after);
                Some(Ok(extension))
            }
            None => {
                rest = None;
                Some(Err(InvalidExtensionList))
            }
        }
    })
}

impl<'a> Extension<'a> {
    /// The parameters in their order.
    pub(crate) fn params(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let mut rest = self.params;
        std::iter::from_fn(move || {
            let (param, after) = take_param(rest)?;
            rest = after;
            Some(param)
        })
    }
}

impl ParamValue<'_> {
    /// A decimal number without sign or leading zero, if that is what the value is and it fits.
    pub(crate) fn to_number(self) -> Option<u8> {
        let mut number = 0u8;
        for (index, c) in self.chars().enumerate() {
            let digit = c.to_digit(10)?;
            if index > 0 && number == 0 {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(digit as u8)?;
        }
        Some(number)
    }

    /// The characters of the value, a backslash taken away from before each that has one.
    fn chars(&self) -> impl Iterator<Item = char> {
        let mut chars = self.escaped.chars();
        std::iter::from_fn(move || match chars.next()? {
            '\\' => chars.next(),
            c => Some(c),
        })
    }
}

/// `extension = extension-token *( ";" extension-param )`, up to the comma or the end.
fn take_extension(text: &str) -> Option<(Extension<'_>, &str)> {
    let (name, params) = take_token(text)?;
    let mut rest = params;
    while let Some((_, after)) = take_param(rest) {
        rest = after;
    }
    let extension = Extension { name, params: &params[..params.len() - rest.len()] };
    match trim_start(rest) {
        "" => Some((extension, "")),
        rest => rest.strip_prefix(',').map(|after| (extension, after)),
    }
}

/// `";" extension-param`, where `extension-param = token [ "=" (token | quoted-string) ]`.
fn take_param(text: &str) -> Option<(Param<'_>, &str)> {
    let text = trim_start(text).strip_prefix(';')?;
    let (name, rest) = take_token(trim_start(text))?;
    let Some(value) = trim_start(rest).strip_prefix('=') else {
        return Some((Param { name, value: None }, rest));
    };
    let value = trim_start(value);
    let (escaped, rest) = match value.strip_prefix('"') {
        Some(quoted) => take_quoted(quoted)?,
        None => take_token(value)?,
    };
    Some((Param { name, value: Some(ParamValue { escaped }) }, rest))
}

fn take_token(text: &str) -> Option<(&str, &str)> {
    let len = text.bytes().position(|byte| !http::is_token_byte(byte)).unwrap_or(text.len());
    if len == 0 { None } else { Some(text.split_at(len)) }
}

/// The inside of a quoted string and what follows its closing quote. RFC 6455 §9.1: unescaped, it must be a token.
fn take_quoted(text: &str) -> Option<(&str, &str)> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let meant = match byte {
            b'"' if at > 0 => return Some((&text[..at], &text[at + 1..])),
            b'\\' => bytes.next()?.1,
            byte => byte,
        };
        if !http::is_token_byte(meant) {
            return None;
        }
    }
    None
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list written out again, one way only.
    fn read(value: &str) -> Result<String, InvalidExtensionList> {
        let mut out = Vec::new();
        for extension in extensions(value) {
            let extension = extension?;
            let params = extension.params().map(|param| match param.value {
                Some(value) => format!(";{}={}", param.name, value.chars().collect::<String>()),
                None => format!(";{}", param.name),
            });
            out.push(format!("{}{}", extension.name, params.collect::<String>()));
        }
        Ok(out.join(","))
    }

    #[test]
    fn lists_that_conform() {
        let cases = [
            ("", ""),
            (" , ,", ""),
            ("foo", "foo"),
            ("foo, bar; baz=2", "foo,bar;baz=2"),
            ("foo;a;b=c , bar", "foo;a;b=c,bar"),
            ("\tfoo ; a = \"b\" ;c", "foo;a=b;c"),
            (r#"foo;a="1\0""#, "foo;a=10"),
            (r#"foo;a="\b\c", bar"#, "foo;a=bc,bar"),
            (",foo,,bar,", "foo,bar"),
        ];
        for (value, want) in cases {
            assert_eq!(read(value).as_deref(), Ok(want), "{value:?}");
        }
    }

    #[test]
    fn lists_that_do_not() {
        let cases = [
            ";",
            "=",
            "foo;",
            "foo; ;a",
            "foo;=",
            "foo;a=",
            "foo bar",
            "foo;a b",
            "foo;a=\"",
            "foo;a=\"\"",
            "foo;a=\"b",
            "foo;a=\"b c\"",
            "foo;a=\"b\\",
            "foo;a=\"b,c\"",
            "foo;a=\"b\"c",
            "foo;é",
            "foo;a=b=c",
            "foo/1",
        ];
        for value in cases {
            assert_eq!(read(value), Err(InvalidExtensionList), "{value:?}");
        }
    }

    #[test]
    fn numbers_are_decimal_and_written_one_way() {
        let cases = [
            ("0", Some(0)),
            ("8", Some(8)),
            ("15", Some(15)),
            ("255", Some(255)),
            ("256", None),
            ("08", None),
            ("00", None),
            ("+8", None),
            ("8a", None),
            (r"\1\5", Some(15)),
        ];
        for (escaped, want) in cases {
            assert_eq!(ParamValue { escaped }.to_number(), want, "{escaped:?}");
        }
    }
}
