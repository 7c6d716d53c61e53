//! What a node's metrics say.

use anyhow::{Context, ensure};

use super::Cluster;

/// What Prometheus would have read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Samples(String);

impl Samples {
    /// The sum of all samples of one name; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    /// The sample of one name and shard, if there is one.
    #[must_use]
    pub fn of_shard(&self, name: &str, shard: u32) -> Option<f64> {
        let label = format!("shard=\"{shard}\"");
        let mut samples = self.of(name);
        let found = samples.find(|(labels, _)| labels.split(',').any(|part| part == label));
        found.map(|(_, value)| value)
    }

    /// Labels and values of one name.
    fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().ok()?))
        })
    }
}

impl Cluster {
    /// A node's metrics now.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn metrics(&self, at: usize) -> anyhow::Result<Samples> {
        let answer = self.http(at, "/metrics").await;
        let answer = answer.with_context(|| format!("the metrics of node-{}", at + 1))?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(Samples(answer.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_their_whole_name_and_shard() {
        let text = "# HELP sent Bytes.\nsent_total 7\nsent_total_more 9\n\
                    size{shard=\"1\"} 10\nsize{node=\"a\",shard=\"12\"} 2.5\n";
        let samples = Samples(text.to_owned());
        assert!((samples.sum("sent_total") - 7.0).abs() < f64::EPSILON);
        assert!((samples.sum("size") - 12.5).abs() < f64::EPSILON);
        assert_eq!(samples.of_shard("size", 12), Some(2.5));
        assert_eq!(samples.of_shard("size", 2), None);
        assert_eq!(samples.of_shard("sent_total", 1), None);
    }
}
