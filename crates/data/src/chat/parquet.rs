//! Parquet files, row by row.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Number, Value};

use crate::config::ChatColumns;
use crate::error::Error;
use crate::source::quoted;

/// The columns that conversations are read from, beside those that a config names.
const COLUMNS: [&str; 9] =
    ["messages", "conversations", "instruction", "input", "output", "history", "prompt", "completion", "system"];

/// Calls `each` with the number of every row, from 1, and its columns that a format knows.
pub(super) fn records(
    path: &Path,
    columns: &ChatColumns,
    mut each: impl FnMut(u64, Result<Value, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.len() == 0 {
        return Err(Error::EmptyFile { path: path.into() });
    }
    let broken = |row: u64, message: String| Error::Record {
        path: path.into(),
        line: row,
        message: format!("the Parquet file cannot be read: {message}"),
        hint: "write it again, for example with pandas' `to_parquet`".into(),
    };
    // The library panics at some broken files instead of refusing them.
    let guarded = |row: u64, what: &mut dyn FnMut() -> Result<Option<Row>, ParquetError>| {
        let outcome = catch_unwind(AssertUnwindSafe(what));
        let outcome =
            outcome.map_err(|_| broken(row, "its structure is broken, or of a kind that is not known".into()))?;
        outcome.map_err(|error| broken(row, error.to_string()))
    };
    let mut file = Some(file);
    let mut reader = None;
    guarded(1, &mut || {
        reader = file.take().map(SerializedFileReader::new).transpose()?;
        Ok(None)
    })?;
    let Some(reader) = reader else { return Ok(()) };
    let schema = reader.metadata().file_metadata().schema();
    let known = |name: &str| {
        COLUMNS.contains(&name)
            || [&columns.question, &columns.answer].iter().any(|column| *column == name)
            || columns.system() == name
    };
    let chosen: Vec<_> = schema.get_fields().iter().filter(|field| known(field.name())).cloned().collect();
    if chosen.is_empty() {
        let found = quoted(schema.get_fields().iter().map(|field| field.name()));
        let message = format!("no column that a format knows; the file has {found}");
        let hint = "name the columns with `question` and `answer`".into();
        return Err(Error::Record { path: path.into(), line: 1, message, hint });
    }
    let mut projection = Some(Type::group_type_builder(schema.name()).with_fields(chosen));
    let mut rows = None;
    guarded(1, &mut || {
        let projection = projection.take().map(|builder| builder.build()).transpose()?;
        rows = Some(reader.get_row_iter(projection)?);
        Ok(None)
    })?;
    let Some(mut rows) = rows else { return Ok(()) };
    let mut number = 0;
    while let Some(row) = guarded(number + 1, &mut || rows.next().transpose())? {
        number += 1;
        each(number, Ok(object(&row)))?;
    }
    Ok(())
}

fn object(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
}

/// A field as JSON has it. What a conversation holds are texts, numbers, lists and structs; of the rest only its kind
/// matters, for an error.
fn value(field: &Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::Bool(*truth),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => (*number).into(),
        Field::Long(number)
        | Field::TimeMicros(number)
        | Field::TimestampMillis(number)
        | Field::TimestampMicros(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => float(number.to_f64()),
        Field::Float(number) => float(f64::from(*number)),
        Field::Double(number) => float(*number),
        Field::Decimal(_) => Value::Null,
        Field::Str(text) => Value::String(text.clone()),
        // Older writers leave out that a text is one.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::Array(Vec::new()),
        },
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entry = |(key, of_key): &(Field, Field)| match value(key) {
                Value::String(key) => (key, value(of_key)),
                key => (key.to_string(), value(of_key)),
            };
            Value::Object(map.entries().iter().map(entry).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    const SCHEMA: &str = "message schema {
        optional binary prompt_id (UTF8);
        optional group messages (LIST) { repeated group list { optional group element {
            optional binary role (UTF8); optional binary content; optional double weight;
        } } }
        optional int96 time;
    }";

    /// Two rows: a list of two messages, the second with a weight; and a list that is null.
    fn write(path: &Path, compression: Compression) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
        type Column<'a> = (Vec<ByteArray>, Option<f64>, &'a [i16], &'a [i16]);
        let columns: [Column; 5] = [
            (texts(&["i", "j"]), None, &[1, 1], &[0, 0]),
            (texts(&["user", "assistant"]), None, &[4, 4, 0], &[0, 1, 0]),
            (texts(&["a é", "b"]), None, &[4, 4, 0], &[0, 1, 0]),
            (vec![], Some(0.5), &[3, 4, 0], &[0, 1, 0]),
            (vec![], None, &[0, 0], &[0, 0]),
        ];
        for (texts, weight, definition, repetition) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            if let Some(weight) = weight {
                column.typed::<DoubleType>().write_batch(&[weight], Some(definition), Some(repetition)).unwrap();
            } else if !texts.is_empty() {
                column.typed::<ByteArrayType>().write_batch(&texts, Some(definition), Some(repetition)).unwrap();
            } else {
                use parquet::data_type::Int96Type;
                column.typed::<Int96Type>().write_batch(&[], Some(definition), Some(repetition)).unwrap();
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    fn read(path: &Path) -> Result<Vec<(u64, Value)>, String> {
        let mut rows = Vec::new();
        let each = |row, value: Result<Value, Error>| {
            rows.push((row, value?));
            Ok(())
        };
        records(path, &ChatColumns::default(), each).map_err(|error| error.to_string())?;
        Ok(rows)
    }

    #[test]
    fn nested_rows_are_read_under_every_compression_and_other_columns_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
            Compression::LZ4_RAW,
        ] {
            write(&path, compression);
            let messages = serde_json::json!([
                {"role": "user", "content": "a é", "weight": null},
                {"role": "assistant", "content": "b", "weight": 0.5},
            ]);
            let expected = [serde_json::json!({"messages": messages}), serde_json::json!({"messages": null})];
            let expected: Vec<(u64, Value)> = (1..).zip(expected).collect();
            assert_eq!(read(&path).unwrap(), expected, "{compression}");
        }
    }

    #[test]
    fn a_broken_file_is_an_error_wherever_it_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        write(&path, Compression::SNAPPY);
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            std::fs::write(&path, &broken).unwrap();
            // A changed letter of a text is no error; nothing may panic.
            refused += usize::from(read(&path).is_err());
            if at % 16 == 0 {
                std::fs::write(&path, &whole[..at]).unwrap();
                assert!(read(&path).is_err(), "cut at {at}");
            }
        }
        assert!(refused > whole.len() / 4, "{refused} of {}", whole.len());
    }

    #[test]
    fn a_file_without_a_known_column_lists_those_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        let schema = Arc::new(parse_message_type("message schema { optional int32 id; }").unwrap());
        SerializedFileWriter::new(File::create(&path).unwrap(), schema, Default::default()).unwrap().close().unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.contains("no column that a format knows; the file has `id`"), "{error}");
    }
}
