//! A logarithmic axis.
//!
//! Invariant: all values that it was made for lie between its ends.

/// Where ticks are in each decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// Decades that are looked through for ticks, from 10 to the power of the first: from below what is
/// measured to above it.
const DECADES: std::ops::Range<i32> = -5..9;

/// No value is nearer to an end than this factor, so that its mark and label have room.
const MARGIN: f64 = 1.1;

/// From values to places.
pub(super) struct Axis {
    /// The values at its ends.
    ends: (f64, f64),
    /// The place of the first end, in pixels.
    from: f64,
    /// To the other end; less than 0 to go up or left.
    length: f64,
}

/// A tick.
pub(super) struct Tick {
    pub(super) value: f64,
    /// Whether it is a power of ten.
    pub(super) is_decade: bool,
}

impl Axis {
    /// From the tick below the least of the values to the one above the greatest; none if there is
    /// no value above 0.
    pub(super) fn over(values: impl Iterator<Item = f64>, from: f64, length: f64) -> Option<Self> {
        let positive = values.filter(|value| *value > 0.0 && value.is_finite());
        let range = positive.fold(None, |range: Option<(f64, f64)>, value| match range {
            None => Some((value, value)),
            Some((least, greatest)) => Some((least.min(value), greatest.max(value))),
        });
        let (least, greatest) = range?;
        let below = all_ticks()
            .map(|tick| tick.value)
            .filter(|tick| *tick * MARGIN < least);
        let above = all_ticks()
            .map(|tick| tick.value)
            .find(|tick| *tick > greatest * MARGIN);
        Some(Self {
            ends: (below.last()?, above?),
            from,
            length,
        })
    }

    /// Where a value is, in pixels.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (first, last) = self.ends;
        let share = (value / first).ln() / (last / first).ln();
        self.from + self.length * share
    }

    /// The ticks, ends included.
    pub(super) fn ticks(&self) -> impl Iterator<Item = Tick> {
        let (first, last) = self.ends;
        all_ticks().filter(move |tick| tick.value >= first && tick.value <= last)
    }
}

fn all_ticks() -> impl Iterator<Item = Tick> {
    DECADES.flat_map(|decade| {
        STEPS.map(|step| Tick {
            value: step * 10_f64.powi(decade),
            is_decade: step == 1.0,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_the_ends_in_logarithmic_order() {
        let axis = Axis::over([0.7, 30.0].into_iter(), 0.0, 200.0).unwrap();
        let ticks: Vec<f64> = axis.ticks().map(|tick| tick.value).collect();
        assert_eq!(ticks, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert!((axis.place(5.0) - 100.0).abs() < 1e-9);
        assert!(axis.place(0.7) > 0.0 && axis.place(30.0) < 200.0);
        assert!(Axis::over([0.0, f64::NAN].into_iter(), 0.0, 1.0).is_none());
    }
}
