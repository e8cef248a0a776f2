//! Tells the story on the terminal and keeps the count that decides the exit code.

use std::time::Instant;

/// What stopped the host country, in the words of whatever refused it.
pub type Refusal = String;

/// Counts steps that held and attempts that were refused.
pub struct Narrator {
    started: Instant,
    steps: u32,
    held: u32,
    attempts: u32,
    refused: u32,
}

impl Narrator {
    pub fn new() -> Self {
        Self { started: Instant::now(), steps: 0, held: 0, attempts: 0, refused: 0 }
    }

    /// A heading.
    pub fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    /// One step of the story; its detail is shown. A step that fails ends the story.
    pub fn step<T>(&mut self, title: &str, act: impl FnOnce() -> anyhow::Result<(T, String)>) -> anyhow::Result<T> {
        self.steps += 1;
        let before = Instant::now();
        match act() {
            Ok((value, detail)) => {
                self.held += 1;
                println!("  ✓ {title}  [{} ms]", before.elapsed().as_millis());
                detail.lines().for_each(|line| println!("      {line}"));
                Ok(value)
            }
            Err(error) => {
                println!("  ✗ {title}");
                println!("      {error:#}");
                Err(error)
            }
        }
    }

    /// One attempt of the host country: `Ok` holds what refused it, `Err` what it got. An attempt that succeeds does not stop
    /// the story, it fails the demonstration.
    pub fn attempt(&mut self, title: &str, act: impl FnOnce() -> anyhow::Result<Result<Refusal, String>>) {
        self.attempts += 1;
        match act() {
            Ok(Ok(refusal)) => {
                self.refused += 1;
                println!("  ✓ {title}");
                refusal.lines().for_each(|line| println!("      refused: {line}"));
            }
            Ok(Err(gained)) => println!("  ✗ {title}\n      NOT REFUSED: {gained}"),
            Err(error) => println!("  ✗ {title}\n      the attempt could not be made: {error:#}"),
        }
    }

    /// The last line, and whether everything held.
    pub fn finish(&self, planned_steps: u32, planned_attempts: u32) -> bool {
        println!("\n({:.1} s)", self.started.elapsed().as_secs_f32());
        println!(
            "demo: {} of {planned_steps} steps held, {} of {planned_attempts} attempts refused",
            self.held, self.refused
        );
        self.held == planned_steps
            && self.refused == planned_attempts
            && self.steps == planned_steps
            && self.attempts == planned_attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<const N: usize>(attempts: [anyhow::Result<Result<Refusal, String>>; N], steps: u32) -> Narrator {
        let mut narrator = Narrator::new();
        for _ in 0..steps {
            narrator.step("a step", || Ok(((), String::new()))).unwrap();
        }
        for attempt in attempts {
            narrator.attempt("an attempt", || attempt);
        }
        narrator
    }

    #[test]
    fn only_a_whole_story_with_every_attempt_refused_holds() {
        let refused = || Ok(Ok("the TPM".to_owned()));
        assert!(told([refused(), refused()], 2).finish(2, 2));
        assert!(!told([refused(), Ok(Err("a seed".to_owned()))], 2).finish(2, 2), "an attempt gained something");
        assert!(!told([refused(), Err(anyhow::anyhow!("no bus"))], 2).finish(2, 2), "an attempt was not made");
        assert!(!told([refused()], 2).finish(2, 2) && !told([refused(), refused()], 1).finish(2, 2), "one is missing");
        assert!(!told([refused(), refused(), refused()], 2).finish(2, 2), "one is not counted on");
        let mut failing = told([refused(), refused()], 1);
        assert!(failing.step::<()>("a step", || anyhow::bail!("broken")).is_err());
        assert!(!failing.finish(2, 2), "a step failed");
    }
}
