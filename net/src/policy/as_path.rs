//! Regular expressions over AS paths.
//!
//! An AS path is matched as text: its ASes in decimal, nearest first, with one space between two; an AS_SET is in braces.
//! A pattern is a regular expression over that text in which `_` stands for a border between ASes: the beginning or end
//! of the path, a space, a comma, a brace or a parenthesis. So `_65010_` finds 65010 anywhere, `^65010_` right beside
//! us, `_65010$` at the origin, and `^$` is the empty path of what originates here. A pattern matches anywhere in the
//! path unless `^` or `$` hold it.

use std::fmt;
use std::str::FromStr;

use regex::RegexSet;

/// What `_` stands for.
const BORDER: &str = "(?:^|[ ,{}()]|$)";

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPathPattern(String);

/// Text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AsPathPatternError {
    /// Something that occurs in no AS path and means nothing in a pattern.
    #[error("`{character}` has no place in an AS path pattern")]
    Character {
        /// The character.
        character: char,
    },
    /// The regular expression is malformed or far too large.
    #[error("{0}")]
    Expression(String),
}

impl AsPathPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AsPathPattern {
    type Err = AsPathPatternError;

    fn from_str(text: &str) -> Result<Self, AsPathPatternError> {
        if text.contains("(?") {
            return Err(AsPathPatternError::Character { character: '?' });
        }
        // Anything else would reach the regex engine's own extensions, which are not part of the notation.
        let allowed = |character: char| character.is_ascii_digit() || " _^$.*+?|()[]{},-".contains(character);
        if let Some(character) = text.chars().find(|character| !allowed(*character)) {
            return Err(AsPathPatternError::Character { character });
        }
        RegexSet::new([translate(text)])
            .map(|_| Self(text.to_owned()))
            .map_err(|error| AsPathPatternError::Expression(last_words(&error)))
    }
}

/// What the engine has against the pattern, without its drawing of it.
fn last_words(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// In the engine's own notation: `_` becomes a border, except inside brackets, where it is one of the characters.
fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len() + BORDER.len());
    let mut in_brackets = false;
    for character in pattern.chars() {
        match character {
            '_' if in_brackets => translated.push_str(" ,{}()"),
            '_' => translated.push_str(BORDER),
            _ => {
                in_brackets = match character {
                    '[' => true,
                    ']' => false,
                    _ => in_brackets,
                };
                translated.push(character);
            }
        }
    }
    translated
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Patterns compiled together: a path is looked at once, however many there are.
#[derive(Debug, Clone)]
pub struct AsPathMatcher {
    patterns: Vec<AsPathPattern>,
    compiled: RegexSet,
}

impl AsPathMatcher {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// [`AsPathPatternError::Expression`] if they are too large together.
    pub fn new(patterns: &[AsPathPattern]) -> Result<Self, AsPathPatternError> {
        let compiled = RegexSet::new(patterns.iter().map(|pattern| translate(&pattern.0)))
            .map_err(|error| AsPathPatternError::Expression(last_words(&error)))?;
        Ok(Self {
            patterns: patterns.to_vec(),
            compiled,
        })
    }

    /// True if any of the patterns is found in the path.
    pub fn matches(&self, path: &str) -> bool {
        self.compiled.is_match(path)
    }
}

impl PartialEq for AsPathMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for AsPathMatcher {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let pattern: AsPathPattern = pattern.parse().expect("a pattern");
        AsPathMatcher::new(&[pattern]).expect("small").matches(path)
    }

    #[test]
    fn an_underscore_is_a_border_between_ases() {
        assert!(
            matches("_65010_", "65001 65010 65002") && matches("_65010_", "65010") && matches("_65010_", "1 {65010 2}")
        );
        assert!(!matches("_65010_", "1 165010 2") && !matches("_65010_", "1 650101"));
        assert!(matches("^65010_", "65010 1") && !matches("^65010_", "1 65010"));
        assert!(matches("_65010$", "1 65010") && !matches("_65010$", "65010 1"));
        assert!(matches("^$", "") && !matches("^$", "1"));
        assert!(matches("^6501[0-4]( 65020)*$", "65013 65020 65020") && !matches("^6501[0-4]$", "65015"));
        assert!(matches(".*", "") && matches("^65010_65011$", "65010 65011"));
        assert!(matches("^1[_]2$", "1 2"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<AsPathPattern>().expect_err("wrong").to_string();
        assert!(error("^(65010").contains("unclosed group"), "{}", error("^(65010"));
        assert!(error("AS65010").contains("`A`"));
        assert!(error("(?:1)").contains("`?`"));
        assert!(error("[9-1]").contains("range"), "{}", error("[9-1]"));
        assert!(
            error("(1{1000}){1000}").contains("size"),
            "{}",
            error("(1{1000}){1000}")
        );
    }
}
