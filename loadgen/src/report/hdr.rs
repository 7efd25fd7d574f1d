//! The latencies of each second, as the log that tools for HdrHistogram read.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::conduct::Outcome;

/// Writes response latencies, second by second, in milliseconds where the log wants a maximum.
///
/// # Errors
///
/// A sentence.
pub(crate) fn write(path: &Path, outcome: &Outcome) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Debug| format!("{} cannot be written: {error:?}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(|error| failed(&error))?);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("corewire-load: response latency in nanoseconds, from the intended moment")
        .with_start_time(SystemTime::now())
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut file, &mut serializer)
        .map_err(|error| failed(&error))?;
    for (number, second) in outcome.seconds.iter().enumerate() {
        let begins = Duration::from_secs(number as u64);
        log.write_histogram(&second.response, begins, Duration::from_secs(1), None).map_err(|error| failed(&error))?;
    }
    Ok(())
}
