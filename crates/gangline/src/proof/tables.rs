//! Tables of figures, a GPU a row: JSON rows, CSV or TSV with a header. Columns are called as in the tables
//! of makers' figures (`single_float_performance_gflop_s`) or shortly (`fp32`); a column `claim` says what a
//! row is claimed to be, else its name does.
//!
//! Knows columns and units; not what the figures are worth.

use std::collections::BTreeSet;

use anyhow::Context;
use gangline_rules::classify::{Measured, Resource, vectors::Source};
use serde_json::Value;

use super::formats::{Figures, thousandths};

/// Names of columns: the resource, how many of its unit one is (in thousandths), and whether it is a
/// measured peak.
const COLUMNS: [(&str, Resource, f64, bool); 11] = [
    // Memory counts MiB: 1 GB of a maker is 1,024.
    ("memory_size_gb", Resource::Memory, 1.024, false),
    ("memory_gb", Resource::Memory, 1.024, false),
    ("memory_bandwidth_gb_s", Resource::Bandwidth, 1.0, false),
    ("single_float_performance_gflop_s", Resource::Fp32, 1.0, false),
    ("memory_mib", Resource::Memory, 0.001, false),
    ("bandwidth_mbps", Resource::Bandwidth, 0.001, false),
    ("fp32_mflops", Resource::Fp32, 0.001, false),
    ("fp32", Resource::Fp32, 1.0, true),
    ("i32", Resource::Int32, 1.0, true),
    ("int32", Resource::Int32, 1.0, true),
    ("bw", Resource::Bandwidth, 1.0, true),
];
/// Columns that name what a row is claimed to be, the first of them that a row has.
const CLAIMS: [&str; 5] = ["claim", "claimed", "name", "device", "model"];

/// What a column's name holds that is a figure of a kind we compare, by another name or in another unit.
const LIKE_FIGURES: [&str; 7] = ["memory", "vram", "bandwidth", "flop", "fp32", "int32", "iop"];

fn is_column(name: &str) -> bool {
    COLUMNS.iter().any(|(column, ..)| *column == name)
}

/// Whether anything is read from a column with this name.
fn is_read(name: &str) -> bool {
    is_column(name) || CLAIMS.contains(&name)
}

/// A table as it was read.
#[derive(Debug)]
pub struct Table {
    /// Its rows.
    pub rows: Vec<Figures>,
    /// Columns that look like figures we compare and are none by name: whoever reads a verdict must know that they had no
    /// part in it.
    pub passed_over: Vec<String>,
}

impl Table {
    fn new<'a>(rows: Vec<Figures>, columns: impl Iterator<Item = &'a str>) -> Self {
        let mut passed_over: Vec<String> = columns
            .filter(|name| !is_column(name) && LIKE_FIGURES.iter().any(|part| name.contains(part)))
            .map(str::to_owned)
            .collect();
        passed_over.sort();
        passed_over.dedup();
        Self { rows, passed_over }
    }
}

/// Whether a JSON value is a table: an array, or an object that holds one under `rows`.
pub fn is_rows(value: &Value) -> bool {
    rows(value).is_some()
}

fn rows(value: &Value) -> Option<&Vec<Value>> {
    match value {
        Value::Array(rows) => Some(rows),
        Value::Object(object) => object.get("rows")?.as_array(),
        _ => None,
    }
}

/// Rows of JSON objects.
pub fn json(value: &Value) -> anyhow::Result<Table> {
    let rows = rows(value).context("expected an array of rows")?;
    if rows.is_empty() {
        anyhow::bail!("the table has no rows");
    }
    let (mut read, mut columns) = (vec![], BTreeSet::new());
    for (at, row) in rows.iter().enumerate() {
        let Value::Object(row) = row else { anyhow::bail!("row {at} is not an object") };
        let fields: Vec<(String, String)> = row
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.to_ascii_lowercase(), text)
            })
            .collect();
        read.push(figures(format!("row {at}"), &fields)?);
        columns.extend(fields.into_iter().map(|(name, _)| name));
    }
    Ok(Table::new(read, columns.iter().map(String::as_str)))
}

/// Lines of fields separated by tabs or commas, the first of them a header.
pub fn separated(text: &str) -> anyhow::Result<Table> {
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    let (_, header) = lines.next().context("it has no header")?;
    let tabs = header.contains('\t');
    let header: Vec<String> =
        split(header, tabs).iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if let Some(twice) =
        header.iter().enumerate().find(|(at, name)| is_read(name) && header[..*at].contains(name))
    {
        anyhow::bail!("its first line names {:?} twice", twice.1);
    }
    if !header.iter().any(|name| is_column(name)) {
        let known: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
        anyhow::bail!("its first line has no column of figures; known are {}", known.join(", "));
    }
    let rows: Vec<Figures> = lines
        .map(|(at, line)| {
            let fields = split(line, tabs);
            if fields.len() != header.len() {
                anyhow::bail!("line {} has {} fields; the header has {}", at + 1, fields.len(), header.len());
            }
            let named: Vec<(String, String)> =
                header.iter().cloned().zip(fields).filter(|(_, f)| !f.trim().is_empty()).collect();
            figures(format!("line {}", at + 1), &named)
        })
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        anyhow::bail!("the table has no rows");
    }
    Ok(Table::new(rows, header.iter().map(String::as_str)))
}

/// Fields of a line; a field with commas stands in double quotes.
fn split(line: &str, tabs: bool) -> Vec<String> {
    if tabs {
        return line.split('\t').map(str::to_owned).collect();
    }
    let (mut fields, mut field, mut quoted) = (vec![], String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

fn figures(at: String, fields: &[(String, String)]) -> anyhow::Result<Figures> {
    let text = |name: &str| fields.iter().find(|(column, _)| column == name).map(|(_, text)| text.trim());
    let claim = CLAIMS.iter().find_map(|name| text(name)).filter(|claim| !claim.is_empty());
    let claim = claim.with_context(|| format!("{at} names nothing: it has no `name` or `claim`"))?.to_owned();
    let (mut measured, mut source) = (Vec::<Measured>::new(), Source::Published);
    for (name, resource, unit, is_peak) in COLUMNS {
        let Some(found) = text(name).filter(|found| *found != "-" && *found != "None") else { continue };
        let value = found.parse::<f64>().ok().and_then(|value| thousandths(value * unit));
        let value = value.with_context(|| format!("{name} of {at} is {found:?}, no figure above 0"))?;
        if measured.iter().any(|m| m.resource == resource) {
            anyhow::bail!("{at} has two figures for its {}", resource.words());
        }
        measured.push(Measured { resource, value });
        if is_peak {
            source = Source::Peaks;
        }
    }
    if measured.is_empty() {
        anyhow::bail!("{at} holds no figure");
    }
    Ok(Figures { at, claim, source, measured })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_json_and_from_text_alike() {
        let rows = serde_json::json!([{
            "name": "GeForce RTX 4090", "memory_size_gb": 24.0, "memory_bandwidth_gb_s": 1010.0,
            "single_float_performance_gflop_s": 82580.0, "release_date": null,
        }]);
        let table = "name,memory_size_gb,memory_bandwidth_gb_s,single_float_performance_gflop_s\n\
            \"GeForce RTX 4090\",24,1010,82580\n";
        let (one, other) = (json(&rows).unwrap().rows, separated(table).unwrap().rows);
        assert_eq!(one[0].measured, other[0].measured);
        assert_eq!((one[0].source, one[0].claim.as_str()), (Source::Published, "GeForce RTX 4090"));
        let memory = Measured { resource: Resource::Memory, value: 24 * 1024 };
        assert!(one[0].measured.contains(&memory), "{:?}", one[0].measured);
    }

    #[test]
    fn a_claim_may_stand_beside_the_name() {
        let found = separated("name\tclaim\tfp32\tbw\tint32\nA\tB, larger\t7\t8\t-\n").unwrap().rows;
        assert_eq!((found[0].claim.as_str(), found[0].source), ("B, larger", Source::Peaks));
        assert_eq!(found[0].measured.len(), 2);
    }

    #[test]
    fn figures_in_other_units_are_told_and_not_taken_for_ours() {
        let table =
            separated("name,memory_gb,FP32_TFLOPS,bandwidth_gbps,launched\r\nA,24,82,1010,2022\r\n").unwrap();
        assert_eq!(table.passed_over, ["bandwidth_gbps", "fp32_tflops"]);
        assert_eq!(table.rows[0].measured.len(), 1);
        let rows = serde_json::json!([{"name": "A", "fp32": 7, "vram_mb": 5}, {"name": "B", "fp32": 7}]);
        assert_eq!(json(&rows).unwrap().passed_over, ["vram_mb"]);
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        let check = |text: &str, words: &str| {
            let error = format!("{:#}", separated(text).expect_err(text));
            assert!(error.contains(words), "{error}");
        };
        check("a,b\n1,2\n", "no column of figures");
        check("name,fp32\n", "no rows");
        check("name,fp32\nA,1,2\n", "line 2 has 3 fields");
        check("name,fp32\nA,many\n", "fp32 of line 2 is \"many\"");
        check("name,fp32\nA,-1\n", "no figure above 0");
        check("name,fp32\n,1\n", "names nothing");
        check("name,fp32\nA,\n", "holds no figure");
        check("name,fp32,fp32_mflops\nA,1,2\n", "two figures for its fp32 rate");
        check("name,fp32,FP32\nA,1,2\n", "names \"fp32\" twice");
        check("name,name,fp32\nA,B,2\n", "names \"name\" twice");
        assert!(json(&serde_json::json!([1])).is_err());
        assert!(json(&serde_json::json!([])).is_err());
    }
}
