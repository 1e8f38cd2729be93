//! Draws at random, but each item once before any is drawn again, so that a short soak has most outages too.

use fastrand::Rng;

pub struct Deck<T: 'static> {
    all: &'static [T],
    left: Vec<T>,
}

impl<T: Clone> Deck<T> {
    pub const fn of(all: &'static [T]) -> Self {
        Self {
            all,
            left: Vec::new(),
        }
    }

    pub fn draw(&mut self, random: &mut Rng) -> T {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
            random.shuffle(&mut self.left);
        }
        self.left.pop().unwrap()
    }
}
