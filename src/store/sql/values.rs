//! Values that a statement reads as a table.

use serde_json::Value;

/// One column of [`Values`].
pub(in crate::store) enum Column<'a> {
    Text(Vec<Option<&'a str>>),
    Integer(Vec<i64>),
}

/// Rows of values, column by column; to a statement, the table `v`, which also has their `position`.
#[derive(Default)]
pub(in crate::store) struct Values<'a> {
    columns: Vec<(&'static str, Column<'a>)>,
}

impl<'a> Values<'a> {
    /// Keys of messages.
    pub(in crate::store) fn keys(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self::default().texts("uuid", keys)
    }

    /// With a column of texts.
    pub(in crate::store) fn texts(
        self,
        name: &'static str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.nullable(name, texts.into_iter().map(Some))
    }

    /// With a column of texts that may be NULL.
    pub(in crate::store) fn nullable(
        mut self,
        name: &'static str,
        texts: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        let texts = Column::Text(texts.into_iter().collect());
        self.columns.push((name, texts));
        self
    }

    /// With a column of integers.
    pub(in crate::store) fn integers<N: Into<i64>>(
        mut self,
        name: &'static str,
        integers: impl IntoIterator<Item = N>,
    ) -> Self {
        let integers = Column::Integer(integers.into_iter().map(Into::into).collect());
        self.columns.push((name, integers));
        self
    }

    /// Those of keys that `wanted` holds.
    #[cfg(feature = "mysql")]
    pub(in crate::store) fn only(&self, wanted: &std::collections::HashSet<&str>) -> Self {
        let Some((_, Column::Text(keys))) = self.columns.first() else {
            return Self::default();
        };
        let of_wanted = |nth: &usize| keys[*nth].is_some_and(|key| wanted.contains(key));
        let rows: Vec<usize> = (0..keys.len()).filter(of_wanted).collect();
        let column = |column: &Column<'a>| match column {
            Column::Text(texts) => Column::Text(rows.iter().map(|nth| texts[*nth]).collect()),
            Column::Integer(integers) => {
                Column::Integer(rows.iter().map(|nth| integers[*nth]).collect())
            }
        };
        let columns = self.columns.iter().map(|(name, all)| (*name, column(all)));
        Self {
            columns: columns.collect(),
        }
    }

    pub(in crate::store) fn columns(&self) -> &[(&'static str, Column<'a>)] {
        &self.columns
    }

    /// How many rows there are.
    pub(in crate::store) fn len(&self) -> usize {
        match self.columns.first() {
            None => 0,
            Some((_, Column::Text(texts))) => texts.len(),
            Some((_, Column::Integer(integers))) => integers.len(),
        }
    }

    /// A JSON array of the rows, each an array.
    pub(in crate::store) fn json(&self) -> String {
        let rows = (0..self.len()).map(|nth| {
            let cells = self.columns.iter().map(|(_, column)| match column {
                Column::Text(texts) => texts[nth].map_or(Value::Null, Value::from),
                Column::Integer(integers) => integers[nth].into(),
            });
            Value::Array(cells.collect())
        });
        Value::Array(rows.collect()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Values;

    #[test]
    fn values_as_json_are_rows_of_cells() {
        let values = Values::keys(["a", "it's \"b\""])
            .nullable("log", [None, Some("ž\n")])
            .integers("attempts", [1, 2]);
        assert_eq!(values.json(), r#"[["a",null,1],["it's \"b\"","ž\n",2]]"#);
    }
}
