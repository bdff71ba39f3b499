//! Statements that are written once and run on both databases.
//!
//! Parameters stand in the text by name, as `{name}`. A scalar becomes the database's own parameter. A table parameter
//! carries a whole batch, whatever its size, and stands where a table may stand: it becomes `unnest` of arrays on
//! PostgreSQL and `json_each` on SQLite, under its own name, with its columns and `at`, the row's place from 0.

use std::fmt::Write as _;

use sqlx::{
    AssertSqlSafe, Column as _, Database, PgConnection, Postgres, Row as _, Sqlite, SqliteConnection,
    TypeInfo as _, ValueRef as _, postgres::PgRow, query::Query, sqlite::SqliteRow,
};

use super::{StoreError, connections::answer};

/// A value that a statement takes.
#[derive(Clone)]
pub enum Value {
    /// A number.
    Int(Option<i64>),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(Option<String>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
    /// A batch of rows, by columns of one length.
    Table(Vec<(&'static str, Column)>),
    /// An array, for a function of PostgreSQL's schema.
    Array(Column),
}

/// A column of a batch.
#[derive(Clone)]
pub enum Column {
    /// Numbers.
    Int(Vec<Option<i64>>),
    /// Yes or no.
    Bool(Vec<bool>),
    /// Text.
    Text(Vec<String>),
    /// Bytes.
    Bytes(Vec<Vec<u8>>),
}

impl Value {
    /// A batch of one column, `value`.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::Table(vec![(
            "value",
            Column::Bytes(keys.into_iter().map(<[u8]>::to_vec).collect()),
        )])
    }

    /// An array of keys.
    pub fn array<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::Array(Column::Bytes(keys.into_iter().map(<[u8]>::to_vec).collect()))
    }

    /// A batch of numbers, column `value`.
    pub fn numbers(numbers: impl IntoIterator<Item = i64>) -> Self {
        Self::Table(vec![(
            "value",
            Column::Int(numbers.into_iter().map(Some).collect()),
        )])
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident, $this:ident, $value:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($this: $from) -> Self {
                Self::$variant($value)
            }
        }
    )*};
}

value_from! {
    i64 => Int, this, Some(this);
    Option<i64> => Int, this, this;
    i32 => Int, this, Some(this.into());
    bool => Bool, this, this;
    &str => Text, this, Some(this.to_owned());
    String => Text, this, Some(this);
    Option<&str> => Text, this, this.map(str::to_owned);
    &[u8] => Bytes, this, Some(this.to_vec());
    &[u8; 16] => Bytes, this, Some(this.to_vec());
    &[u8; 32] => Bytes, this, Some(this.to_vec());
    Vec<u8> => Bytes, this, Some(this);
    Option<Vec<u8>> => Bytes, this, this;
    Option<&[u8; 32]> => Bytes, this, this.map(|bytes| bytes.to_vec());
}

/// What a statement takes, by name.
pub type Params<'a> = &'a [(&'static str, Value)];

/// A connection of either database.
pub enum Connection<'a> {
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
}

impl Connection<'_> {
    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(connection) => {
                let query = sqlite(sql, params)?.execute(&mut **connection);
                query.await?.rows_affected()
            }
            Self::Postgres(connection) => {
                let query = postgres(sql, params)?.execute(&mut **connection);
                answer(query).await?.rows_affected()
            }
        })
    }

    /// Runs a statement; its rows.
    pub async fn all(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = sqlite(sql, params)?.fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = answer(postgres(sql, params)?.fetch_all(&mut **connection)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs a statement; its row, when it has one.
    pub async fn optional(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    /// Runs a statement; its row.
    pub async fn one(&mut self, sql: &'static str, params: Params<'_>) -> Result<Row, StoreError> {
        let row = self.optional(sql, params).await?;
        row.ok_or(StoreError::Failed(sqlx::Error::RowNotFound))
    }
}

/// A row of either database.
pub enum Row {
    /// SQLite.
    Sqlite(SqliteRow),
    /// PostgreSQL.
    Postgres(PgRow),
}

macro_rules! get {
    ($row:expr, $at:expr, $as:ty) => {
        match $row {
            Row::Sqlite(row) => row.try_get::<$as, _>($at),
            Row::Postgres(row) => row.try_get::<$as, _>($at),
        }
    };
}

impl Row {
    /// A number.
    pub fn int(&self, at: usize) -> Result<i64, StoreError> {
        Ok(get!(self, at, i64)?)
    }

    /// A number or nothing.
    pub fn optional_int(&self, at: usize) -> Result<Option<i64>, StoreError> {
        Ok(get!(self, at, Option<i64>)?)
    }

    /// Yes or no.
    pub fn bool(&self, at: usize) -> Result<bool, StoreError> {
        Ok(get!(self, at, bool)?)
    }

    /// Text.
    pub fn text(&self, at: usize) -> Result<&str, StoreError> {
        Ok(get!(self, at, &str)?)
    }

    /// Text or nothing.
    pub fn optional_text(&self, at: usize) -> Result<Option<&str>, StoreError> {
        Ok(get!(self, at, Option<&str>)?)
    }

    /// Bytes.
    pub fn bytes(&self, at: usize) -> Result<&[u8], StoreError> {
        Ok(get!(self, at, &[u8])?)
    }

    /// Bytes or nothing.
    pub fn optional_bytes(&self, at: usize) -> Result<Option<&[u8]>, StoreError> {
        Ok(get!(self, at, Option<&[u8]>)?)
    }

    /// Bytes of a fixed number: ids, hashes, HMACs.
    pub fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], StoreError> {
        self.bytes(at)?
            .try_into()
            .map_err(|_| StoreError::Unreadable("a fixed number of bytes"))
    }

    /// Bytes of a fixed number, or nothing.
    pub fn optional_array<const N: usize>(&self, at: usize) -> Result<Option<[u8; N]>, StoreError> {
        match self.optional_bytes(at)? {
            None => Ok(None),
            Some(_) => self.array(at).map(Some),
        }
    }

    /// A row's place in a batch.
    pub fn place(&self, at: usize) -> Result<usize, StoreError> {
        usize::try_from(self.int(at)?).map_err(|_| StoreError::Unreadable("a batch's order"))
    }

    /// Every column as text that shows its bytes; for tests that search what is stored.
    pub fn shown(&self) -> Vec<String> {
        fn shown(raw: Result<Vec<u8>, sqlx::Error>) -> String {
            raw.map_or_else(
                |error| error.to_string(),
                |raw| String::from_utf8_lossy(&raw).into_owned(),
            )
        }
        match self {
            Self::Sqlite(row) => (0..row.len())
                .map(|at| {
                    let value = row.try_get_raw(at);
                    let name = value.as_ref().map(|value| value.type_info().name().to_owned());
                    match name.as_deref() {
                        Ok("INTEGER") => row
                            .try_get::<i64, _>(at)
                            .map_or_else(|e| e.to_string(), |n| n.to_string()),
                        _ => shown(
                            row.try_get_unchecked::<Option<Vec<u8>>, _>(at)
                                .map(Option::unwrap_or_default),
                        ),
                    }
                })
                .collect(),
            Self::Postgres(row) => row
                .columns()
                .iter()
                .map(|column| {
                    let value = row.try_get_raw(column.ordinal());
                    shown(value.map(|value| match value.is_null() {
                        true => Vec::new(),
                        false => value.as_bytes().map(<[u8]>::to_vec).unwrap_or_default(),
                    }))
                })
                .collect(),
        }
    }
}

/// A statement's text for one database, and the values in the order of its parameters.
struct Expanded<'a> {
    text: String,
    values: Vec<&'a Value>,
}

/// Replaces each `{name}`. `place` writes what stands for a value whose first parameter has this number.
fn expand<'a>(
    sql: &'static str,
    params: Params<'a>,
    width: impl Fn(&Value) -> usize,
    place: impl Fn(&mut String, &str, &Value, usize),
) -> Result<Expanded<'a>, StoreError> {
    let mut text = String::with_capacity(sql.len() + 256);
    let mut numbered: Vec<(&str, usize)> = Vec::with_capacity(params.len());
    let mut values = Vec::with_capacity(params.len());
    let mut next = 1;
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        let unknown = || StoreError::Unreadable("a statement's parameter");
        let (name, after) = after.split_once('}').ok_or_else(unknown)?;
        let (_, value) = params
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(unknown)?;
        text.push_str(before);
        let number = match numbered.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => *number,
            None => {
                numbered.push((name, next));
                values.push(value);
                next += width(value);
                next - width(value)
            }
        };
        place(&mut text, name, value, number);
        rest = after;
    }
    text.push_str(rest);
    Ok(Expanded { text, values })
}

type Bound<DB> = Query<'static, DB, <DB as Database>::Arguments>;

fn postgres(sql: &'static str, params: Params<'_>) -> Result<Bound<Postgres>, StoreError> {
    let width = |value: &Value| match value {
        Value::Table(columns) => columns.len(),
        _ => 1,
    };
    let Expanded { text, values } = expand(sql, params, width, |text, name, value, number| {
        // Writing to a String does not fail.
        let _ = match value {
            Value::Table(columns) => {
                text.push_str("(SELECT at - 1 AS at");
                for (column, _) in columns {
                    let _ = write!(text, ", {column}");
                }
                text.push_str(" FROM unnest(");
                for (at, (_, column)) in columns.iter().enumerate() {
                    let kind = match column {
                        Column::Int(_) => "bigint",
                        Column::Bool(_) => "boolean",
                        Column::Text(_) => "text",
                        Column::Bytes(_) => "bytea",
                    };
                    let comma = if at > 0 { ", " } else { "" };
                    let _ = write!(text, "{comma}${}::{kind}[]", number + at);
                }
                text.push_str(") WITH ORDINALITY AS batch (");
                for (column, _) in columns {
                    let _ = write!(text, "{column}, ");
                }
                write!(text, "at)) AS {name}")
            }
            _ => write!(text, "${number}"),
        };
    })?;
    let mut query = sqlx::query::<Postgres>(AssertSqlSafe(text));
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(*value),
            Value::Bool(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
            Value::Bytes(value) => query.bind(value.clone()),
            Value::Table(columns) => columns
                .iter()
                .fold(query, |query, (_, column)| bind(query, column)),
            Value::Array(column) => bind(query, column),
        };
    }
    Ok(query)
}

fn bind(query: Bound<Postgres>, column: &Column) -> Bound<Postgres> {
    match column {
        Column::Int(values) => query.bind(values.clone()),
        Column::Bool(values) => query.bind(values.clone()),
        Column::Text(values) => query.bind(values.clone()),
        Column::Bytes(values) => query.bind(values.clone()),
    }
}

fn sqlite(sql: &'static str, params: Params<'_>) -> Result<Bound<Sqlite>, StoreError> {
    let Expanded { text, values } = expand(
        sql,
        params,
        |_| 1,
        |text, name, value, number| {
            // Writing to a String does not fail.
            let _ = match value {
                Value::Table(columns) => {
                    text.push_str("(SELECT key AS at");
                    for (at, (column, values)) in columns.iter().enumerate() {
                        let cell = if columns.len() == 1 {
                            "value".to_owned()
                        } else {
                            format!("value ->> {at}")
                        };
                        let _ = match values {
                            Column::Bytes(_) => write!(text, ", unhex({cell}) AS {column}"),
                            _ => write!(text, ", {cell} AS {column}"),
                        };
                    }
                    write!(text, " FROM json_each(${number})) AS {name}")
                }
                _ => write!(text, "${number}"),
            };
        },
    )?;
    let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(text));
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(*value),
            Value::Bool(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
            Value::Bytes(value) => query.bind(value.clone()),
            Value::Table(columns) => query.bind(json(columns)),
            Value::Array(_) => return Err(StoreError::Unreadable("an array, which SQLite does not have")),
        };
    }
    Ok(query)
}

/// A batch as a JSON array of its rows: how it travels in one parameter of SQLite. Bytes are hexadecimal text.
fn json(columns: &[(&'static str, Column)]) -> String {
    let rows = columns.iter().map(|(_, column)| column.len()).max().unwrap_or(0);
    let mut text = String::from("[");
    for row in 0..rows {
        if row > 0 {
            text.push(',');
        }
        if columns.len() > 1 {
            text.push('[');
        }
        for (at, (_, column)) in columns.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            column.write_json(&mut text, row);
        }
        if columns.len() > 1 {
            text.push(']');
        }
    }
    text.push(']');
    text
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// A row that is not there is null, which no column takes.
    fn write_json(&self, text: &mut String, row: usize) {
        // Writing to a String does not fail.
        let _ = match self {
            Self::Int(values) => match values.get(row).copied().flatten() {
                Some(value) => write!(text, "{value}"),
                None => write!(text, "null"),
            },
            Self::Bool(values) => match values.get(row) {
                Some(value) => write!(text, "{}", i32::from(*value)),
                None => write!(text, "null"),
            },
            Self::Text(values) => match values.get(row) {
                Some(value) => write!(text, "{}", serde_json::Value::from(value.as_str())),
                None => write!(text, "null"),
            },
            Self::Bytes(values) => match values.get(row) {
                Some(value) => {
                    text.push('"');
                    data_encoding::HEXLOWER.encode_append(value, text);
                    text.push('"');
                    Ok(())
                }
                None => write!(text, "null"),
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Execute as _;

    use super::*;

    #[test]
    fn a_name_stands_for_its_value_wherever_it_is_used() {
        let params: Params<'_> = &[
            ("now", 5.into()),
            (
                "asked",
                Value::Table(vec![
                    ("token", Column::Bytes(vec![vec![0xab]])),
                    ("kind", Column::Int(vec![Some(3)])),
                ]),
            ),
        ];
        let sql = "SELECT 1 FROM {asked} WHERE a > {now} AND b < {now}";
        assert_eq!(
            postgres(sql, params).unwrap().sql().as_str(),
            "SELECT 1 FROM (SELECT at - 1 AS at, token, kind FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY \
             AS batch (token, kind, at)) AS asked WHERE a > $3 AND b < $3"
        );
        assert_eq!(
            sqlite(sql, params).unwrap().sql().as_str(),
            "SELECT 1 FROM (SELECT key AS at, unhex(value ->> 0) AS token, value ->> 1 AS kind FROM json_each($1)) \
             AS asked WHERE a > $2 AND b < $2"
        );
        assert!(postgres("SELECT {other}", params).is_err());
    }

    #[test]
    fn a_batch_travels_as_rows() {
        let columns = [
            ("a", Column::Bytes(vec![vec![1, 0xff], vec![]])),
            ("b", Column::Text(vec!["\"".to_owned(), "二".to_owned()])),
            ("c", Column::Bool(vec![true, false])),
            ("d", Column::Int(vec![None, Some(-7)])),
        ];
        assert_eq!(json(&columns), r#"[["01ff","\"",1,null],["","二",0,-7]]"#);
        assert_eq!(json(&columns[..1]), r#"["01ff",""]"#);
    }
}
