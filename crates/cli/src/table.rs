//! Metric tables: the numbers, and what each of them means.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use modalign::metrics::{Convention, Metric, MetricsError, Report, Summary, evaluate};
use ndarray::{Array1, ArrayView1};
use serde::Serialize;

/// A named column of a metric table.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub summary: BTreeSummary,
}

pub type BTreeSummary = std::collections::BTreeMap<Metric, Summary>;
