use std::time::Instant;

/// Seconds that a sample takes at least.
const SAMPLE: f64 = 1e-3;

/// Seconds after which a call has its caches, if it has not been made three times.
const WARM: f64 = 0.2;

/// A call that is timed in samples: means of as many calls as take a millisecond.
pub struct Sampled<'a> {
    call: Box<dyn FnMut() + Send + 'a>,
    calls: u32,
}

impl<'a> Sampled<'a> {
    /// Runs the call until it has its caches, and counts how many make a sample.
    pub fn new(call: impl FnMut() + Send + 'a) -> Self {
        let mut sampled = Self {
            call: Box::new(call),
            calls: 1,
        };
        let begin = Instant::now();
        for _ in 0..3 {
            (sampled.call)();
            if begin.elapsed().as_secs_f64() > WARM {
                return sampled;
            }
        }
        loop {
            let taken = sampled.sample() * f64::from(sampled.calls);
            if taken >= SAMPLE {
                return sampled;
            }
            let more = (1.2 * SAMPLE / taken.max(1e-9)).min(10.0);
            sampled.calls = (f64::from(sampled.calls) * more) as u32 + 1;
        }
    }

    /// Seconds a call.
    pub fn sample(&mut self) -> f64 {
        let begin = Instant::now();
        for _ in 0..self.calls {
            (self.call)();
        }
        begin.elapsed().as_secs_f64() / f64::from(self.calls)
    }

    /// Samples until so many seconds are over, one at least.
    pub fn samples(&mut self, seconds: f64) -> Vec<f64> {
        let begin = Instant::now();
        let mut samples = vec![self.sample()];
        while begin.elapsed().as_secs_f64() < seconds {
            samples.push(self.sample());
        }
        samples
    }
}
