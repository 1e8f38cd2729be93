//! Drawing at random, but all before any again: a short soak, too, has most outages.

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
