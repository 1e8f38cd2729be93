//! Values that a statement reads as a table.

use serde_json::Value;

/// One column of [`ValueTable`].
pub(in crate::store) enum ValueColumn<'a> {
    Text(Vec<Option<&'a str>>),
    Integer(Vec<i64>),
}

/// Rows of values, stored by column. A statement reads them as the table `v`, which also has their `position`.
#[derive(Default)]
pub(in crate::store) struct ValueTable<'a> {
    columns: Vec<(&'static str, ValueColumn<'a>)>,
}

impl<'a> ValueTable<'a> {
    /// A table of message keys.
    pub(in crate::store) fn keys(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self::default().texts("uuid", keys)
    }

    /// Adds a column of texts.
    pub(in crate::store) fn texts(
        self,
        name: &'static str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.nullable(name, texts.into_iter().map(Some))
    }

    /// Adds a column of texts that may be NULL.
    pub(in crate::store) fn nullable(
        mut self,
        name: &'static str,
        texts: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        let texts = ValueColumn::Text(texts.into_iter().collect());
        self.columns.push((name, texts));
        self
    }

    /// Adds a column of integers.
    pub(in crate::store) fn integers<N: Into<i64>>(
        mut self,
        name: &'static str,
        integers: impl IntoIterator<Item = N>,
    ) -> Self {
        let integers = ValueColumn::Integer(integers.into_iter().map(Into::into).collect());
        self.columns.push((name, integers));
        self
    }

    /// The rows whose key is in `wanted`.
    #[cfg(feature = "mysql")]
    pub(in crate::store) fn only(&self, wanted: &std::collections::HashSet<&str>) -> Self {
        let Some((_, ValueColumn::Text(keys))) = self.columns.first() else {
            return Self::default();
        };
        let is_wanted = |nth: &usize| keys[*nth].is_some_and(|key| wanted.contains(key));
        let rows: Vec<usize> = (0..keys.len()).filter(is_wanted).collect();
        let column = |column: &ValueColumn<'a>| match column {
            ValueColumn::Text(texts) => {
                ValueColumn::Text(rows.iter().map(|nth| texts[*nth]).collect())
            }
            ValueColumn::Integer(integers) => {
                ValueColumn::Integer(rows.iter().map(|nth| integers[*nth]).collect())
            }
        };
        let columns = self.columns.iter().map(|(name, all)| (*name, column(all)));
        Self {
            columns: columns.collect(),
        }
    }

    pub(in crate::store) fn columns(&self) -> &[(&'static str, ValueColumn<'a>)] {
        &self.columns
    }

    /// The number of rows.
    pub(in crate::store) fn len(&self) -> usize {
        match self.columns.first() {
            None => 0,
            Some((_, ValueColumn::Text(texts))) => texts.len(),
            Some((_, ValueColumn::Integer(integers))) => integers.len(),
        }
    }

    /// The rows as a JSON array of arrays.
    pub(in crate::store) fn json(&self) -> String {
        let rows = (0..self.len()).map(|nth| {
            let cells = self.columns.iter().map(|(_, column)| match column {
                ValueColumn::Text(texts) => texts[nth].map_or(Value::Null, Value::from),
                ValueColumn::Integer(integers) => integers[nth].into(),
            });
            Value::Array(cells.collect())
        });
        Value::Array(rows.collect()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ValueTable;

    #[test]
    fn values_as_json_are_rows_of_cells() {
        let values = ValueTable::keys(["a", "it's \"b\""])
            .nullable("log", [None, Some("ž\n")])
            .integers("attempts", [1, 2]);
        assert_eq!(values.json(), r#"[["a",null,1],["it's \"b\"","ž\n",2]]"#);
    }
}
