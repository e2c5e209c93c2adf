//! Everything that is wrong with one configuration, each with its place in the file.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

use crate::fault::Fault;

/// A configuration that was refused: all of its problems, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub struct Invalid {
    file: Option<NamedSource<String>>,
    problems: Vec<Problem>,
}

impl Invalid {
    /// Collects the problems of the file `name`, whose content is `text`; sorts them by place.
    pub(crate) fn in_file(name: &str, text: &str, found: Vec<Found>) -> Self {
        let mut problems: Vec<_> = found.into_iter().map(|found| Problem::locate(found, text)).collect();
        problems.sort_by_key(|problem| problem.at.as_ref().map(|place| place.span.start));
        problems.dedup_by(|a, b| a.fault == b.fault && a.at == b.at);
        Self {
            file: Some(NamedSource::new(name, text.to_owned()).with_language("TOML")),
            problems,
        }
    }

    /// Collects the problems of a configuration that did not come from a file.
    pub(crate) fn without_file(found: Vec<Found>) -> Self {
        let problems = found
            .into_iter()
            .map(|found| Problem {
                fault: found.fault,
                at: None,
                earlier: None,
            })
            .collect();
        Self { file: None, problems }
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Name of the file, if the configuration came from one.
    pub fn file(&self) -> Option<&str> {
        self.file.as_ref().map(NamedSource::name)
    }
}

impl fmt::Display for Invalid {
    /// One line a problem: `file:line:column: what (remedy)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file().unwrap_or("configuration");
        match self.problems.len() {
            1 => write!(f, "{file} has a problem")?,
            count => write!(f, "{file} has {count} problems")?,
        }
        for problem in &self.problems {
            write!(f, "\n{file}:")?;
            if let Some(place) = &problem.at {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            write!(f, " {problem}")?;
            if let Some(help) = problem.fault.help() {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl Diagnostic for Invalid {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.file.as_ref().map(|file| file as &dyn SourceCode)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    fault: Fault,
    at: Option<Place>,
    earlier: Option<Place>,
}

impl Problem {
    fn locate(found: Found, text: &str) -> Self {
        let place = |span| Place::of(span, text);
        Self {
            fault: found.fault,
            at: found.at.map(place),
            earlier: found.earlier.map(place),
        }
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Where; `None` if the configuration did not come from a file.
    pub fn place(&self) -> Option<&Place> {
        self.at.as_ref()
    }
}

impl fmt::Display for Problem {
    /// What is wrong; not where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |place: &Place, text: &str| {
            LabeledSpan::new_with_span(Some(text.to_owned()), SourceSpan::from(place.span.clone()))
        };
        let at = self.at.as_ref().map(|place| label(place, "here"));
        let earlier = self.earlier.as_ref().map(|place| label(place, "and here"));
        Some(Box::new(at.into_iter().chain(earlier)))
    }
}

/// A place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the file.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
}

impl Place {
    fn of(span: Range<usize>, text: &str) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            span,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A fault before its place is known as line and column.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What is wrong.
    pub(crate) fault: Fault,
    /// Where.
    pub(crate) at: Option<Range<usize>>,
    /// The other place that it contradicts.
    pub(crate) earlier: Option<Range<usize>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nöb = 1\n";
        assert_eq!(
            Place::of(0..1, text),
            Place {
                span: 0..1,
                line: 1,
                column: 1
            }
        );
        assert_eq!(
            Place::of(4..5, text),
            Place {
                span: 4..5,
                line: 2,
                column: 2
            }
        );
        assert_eq!(Place::of(99..99, text).line, 3, "beyond the end is the end");
    }
}
