//! Reads one TOML table key by key, remembers where everything was, and reports the keys that nobody asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::remedy;
use super::value::{FromToml, wrong_type};
use crate::fault::Fault;
use crate::report::Found;

/// Where each part of the configuration is in the file, by path (`port[0].addresses[1]`).
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<String, Range<usize>>);

impl Spans {
    /// Every path that is known.
    #[cfg(test)]
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The place of `path`, or of the nearest thing around it that is in the file.
    pub(crate) fn get(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(span) = self.0.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Forgets `path` and all that is in it: what was there was refused, and its place in the list goes to the next.
    fn forget(&mut self, path: &str) {
        let inside = self
            .0
            .range(path.to_owned()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(path));
        for known in inside.cloned().collect::<Vec<_>>() {
            self.0.remove(&known);
        }
    }
}

/// What reading leaves behind: places and faults.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) spans: Spans,
    pub(super) found: Vec<Found>,
    /// Every key that was asked for, so that a test can tell whether the example shows them all.
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<String>,
}

/// One table that is being read.
pub(super) struct Reader<'d, 's> {
    table: &'d DeTable<'d>,
    span: Range<usize>,
    path: String,
    object: String,
    known: Vec<&'static str>,
    sink: &'s mut Sink,
}

impl<'d, 's> Reader<'d, 's> {
    /// The whole file.
    pub(super) fn root(table: &'d DeTable<'d>, sink: &'s mut Sink) -> Self {
        Self {
            table,
            span: 0..0,
            path: String::new(),
            object: "the file".to_owned(),
            known: Vec::new(),
            sink,
        }
    }

    /// True if the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Faults found up to here.
    pub(super) fn faults(&self) -> usize {
        self.sink.found.len()
    }

    /// Counts a key as known that is not there.
    pub(super) fn absent<T>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        None
    }

    /// Reports a fault at the table itself.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.report(fault, self.span.clone());
    }

    /// Reports a fault at a key of the table, or at the table if the key is absent.
    pub(super) fn fault_at(&mut self, key: &str, fault: Fault) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.report(fault, span);
    }

    /// What messages call the table.
    pub(super) fn object(&self) -> String {
        self.object.clone()
    }

    fn report(&mut self, fault: Fault, at: Range<usize>) {
        self.sink.found.push(Found {
            fault,
            at: Some(at),
            earlier: None,
        });
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of a key, if it is there; the key counts as known.
    fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        let path = self.path_of(key);
        self.sink.spans.0.insert(path, value.span());
        Some(value)
    }

    fn accept<T>(&mut self, result: Result<T, Fault>, at: Range<usize>) -> Option<T> {
        result.map_err(|fault| self.report(fault, at)).ok()
    }

    /// The value of a key; `None` if it is absent, or reported as wrong.
    pub(super) fn optional<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        let value = self.value(key)?;
        self.accept(T::from_toml(key, value.get_ref()), value.span())
    }

    /// The value of a key, or a default.
    pub(super) fn or<T: FromToml>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value of a key; `None` if it was reported as absent or wrong.
    pub(super) fn required<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        self.require(key);
        self.optional(key)
    }

    fn require(&mut self, key: &'static str) {
        if !self.has(key) {
            let object = self.object();
            self.fault(Fault::MissingKey { object, key });
        }
    }

    /// A list; `None` if it is absent. Elements that are wrong are reported and left out.
    pub(super) fn list<T: FromToml>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let array = value
            .get_ref()
            .as_array()
            .ok_or_else(|| wrong_type(key, value.get_ref(), "a list", "its elements in square brackets"));
        let array = self.accept(array, value.span())?;
        let path = self.path_of(key);
        let mut list = Vec::with_capacity(array.len());
        for element in array {
            if let Some(read) = self.accept(T::from_toml(key, element.get_ref()), element.span()) {
                self.sink
                    .spans
                    .0
                    .insert(format!("{path}[{}]", list.len()), element.span());
                list.push(read);
            }
        }
        Some(list)
    }

    /// A list that must be there.
    pub(super) fn required_list<T: FromToml>(&mut self, key: &'static str) -> Option<Vec<T>> {
        self.require(key);
        self.list(key)
    }

    /// A table of its own (`[key]`), called `object`; an absent one is read as empty.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        object: &str,
        read: impl FnOnce(&mut Reader<'_, '_>) -> T,
    ) -> T {
        let empty = DeTable::new();
        let value = self.value(key);
        let table = value.map(|value| {
            let table = value.get_ref().as_table();
            let table = table.ok_or_else(|| wrong_type(key, value.get_ref(), "a table", "a table of this name"));
            self.accept(table, value.span())
        });
        let span = value.map_or(self.span.clone(), Spanned::span);
        let mut reader = Reader {
            table: table.flatten().unwrap_or(&empty),
            span,
            path: self.path_of(key),
            object: object.to_owned(),
            known: Vec::new(),
            sink: self.sink,
        };
        let result = read(&mut reader);
        reader.finish();
        result
    }

    /// Every table of a list (`[[key]]`); those that `read` refuses are left out. `naming` is the key whose value names
    /// the table in messages.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        kind: &str,
        naming: &str,
        mut read: impl FnMut(&mut Reader<'_, '_>) -> Option<T>,
    ) -> Vec<T> {
        let mut list = Vec::new();
        let Some(value) = self.value(key) else { return list };
        let array = value.get_ref().as_array();
        let array = array.ok_or_else(|| wrong_type(key, value.get_ref(), "a list of tables", "[[…]] before each"));
        let Some(array) = self.accept(array, value.span()) else {
            return list;
        };
        let list_path = self.path_of(key);
        for (number, element) in array.iter().enumerate() {
            let table = element.get_ref().as_table();
            let table = table.ok_or_else(|| wrong_type(key, element.get_ref(), "a table", "[[…]] before each"));
            let Some(table) = self.accept(table, element.span()) else {
                continue;
            };
            let path = format!("{list_path}[{}]", list.len());
            self.sink.spans.forget(&path);
            self.sink.spans.0.insert(path.clone(), element.span());
            let object = match table.get(naming).and_then(|name| name.get_ref().as_str()) {
                Some(name) => format!("{kind} `{name}`"),
                None => format!("{kind} number {}", number + 1),
            };
            let mut reader = Reader {
                table,
                span: element.span(),
                path,
                object,
                known: Vec::new(),
                sink: self.sink,
            };
            let item = read(&mut reader);
            reader.finish();
            list.extend(item);
        }
        self.sink.spans.forget(&format!("{list_path}[{}]", list.len()));
        list
    }

    /// Names in the tables of a list, each with another value of its table; for references to what may be broken.
    pub(super) fn names<T: FromToml>(&self, key: &str, naming: &str, value: &str) -> BTreeMap<String, Option<T>> {
        let tables = self.table.get(key).and_then(|list| list.get_ref().as_array());
        let tables = tables
            .into_iter()
            .flatten()
            .filter_map(|table| table.get_ref().as_table());
        tables
            .filter_map(|table| {
                let name = table.get(naming)?.get_ref().as_str()?;
                let value = table
                    .get(value)
                    .and_then(|found| T::from_toml(value, found.get_ref()).ok());
                Some((name.to_owned(), value))
            })
            .collect()
    }

    /// True if the value of the key is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// True if the value of the key is a table with any of these keys.
    pub(super) fn has_inside(&self, key: &str, any: &[&str]) -> bool {
        let table = self.table.get(key).and_then(|value| value.get_ref().as_table());
        table.is_some_and(|table| any.iter().any(|inner| table.contains_key(*inner)))
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(mut self) {
        let known = std::mem::take(&mut self.known);
        #[cfg(test)]
        for key in &known {
            let path = self.path_of(key);
            self.sink.asked.insert(path);
        }
        for key in self.table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let name = key.get_ref().to_string();
                let remedy = remedy(&name, known.iter().copied(), "keys");
                let object = self.object();
                self.report(
                    Fault::UnknownKey {
                        object,
                        key: name,
                        remedy,
                    },
                    key.span(),
                );
            }
        }
    }
}
