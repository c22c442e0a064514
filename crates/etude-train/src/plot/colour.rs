//! Colours of the charts.

/// Red, green, blue, 0 to 255 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// The paper.
    pub const WHITE: Colour = Colour(255, 255, 255);
    /// Titles.
    pub const INK: Colour = Colour(31, 41, 55);
    /// Labels and ticks.
    pub const GREY: Colour = Colour(90, 99, 112);
    /// Axis lines.
    pub const LINE: Colour = Colour(156, 163, 175);
    /// Grid lines.
    pub const FAINT: Colour = Colour(229, 231, 235);
    /// Right.
    pub const GOOD: Colour = Colour(22, 140, 90);
    /// Wrong.
    pub const BAD: Colour = Colour(205, 45, 45);

    /// The mixture `self · (1 − share) + other · share`.
    #[must_use]
    pub fn mix(self, other: Colour, share: f32) -> Colour {
        let share = share.clamp(0.0, 1.0);
        let one = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * share).round() as u8;
        Colour(one(self.0, other.0), one(self.1, other.1), one(self.2, other.2))
    }

    /// How bright it looks, 0 to 1 (the luma weights of Rec. 709).
    pub fn brightness(self) -> f32 {
        (0.2126 * f32::from(self.0) + 0.7152 * f32::from(self.1) + 0.0722 * f32::from(self.2)) / 255.0
    }
}

/// Colours of the series, told apart by people who see red and green alike; they repeat after ten.
pub fn series(index: usize) -> Colour {
    const SERIES: [Colour; 10] = [
        Colour(37, 99, 201),
        Colour(230, 120, 20),
        Colour(16, 150, 110),
        Colour(196, 62, 128),
        Colour(118, 88, 206),
        Colour(20, 160, 190),
        Colour(176, 138, 8),
        Colour(139, 86, 75),
        Colour(107, 114, 128),
        Colour(203, 52, 50),
    ];
    SERIES[index % SERIES.len()]
}

/// A way from numbers in `[0, 1]` to colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourMap {
    /// White to dark blue, for counts.
    Blues,
    /// Dark violet over green to yellow, evenly brighter, for densities and attention.
    Viridis,
    /// Blue over white to red, for signed numbers with zero in the middle.
    Diverging,
    /// Black to white.
    Greys,
}

impl ColourMap {
    /// The colour of `value`, clamped to `[0, 1]`; NaN is grey.
    pub fn at(self, value: f32) -> Colour {
        if value.is_nan() {
            return Colour(200, 200, 200);
        }
        let stops: &[Colour] = match self {
            ColourMap::Blues => {
                const {
                    &[
                        Colour(247, 250, 254),
                        Colour(198, 219, 243),
                        Colour(107, 163, 219),
                        Colour(33, 99, 181),
                        Colour(9, 44, 102),
                    ]
                }
            }
            ColourMap::Viridis => {
                const {
                    &[
                        Colour(68, 1, 84),
                        Colour(71, 44, 122),
                        Colour(59, 81, 139),
                        Colour(44, 113, 142),
                        Colour(33, 144, 141),
                        Colour(39, 173, 129),
                        Colour(92, 200, 99),
                        Colour(170, 220, 50),
                        Colour(253, 231, 37),
                    ]
                }
            }
            ColourMap::Diverging => {
                const {
                    &[
                        Colour(33, 82, 165),
                        Colour(128, 170, 222),
                        Colour(248, 248, 248),
                        Colour(236, 150, 126),
                        Colour(178, 32, 42),
                    ]
                }
            }
            ColourMap::Greys => const { &[Colour(0, 0, 0), Colour(255, 255, 255)] },
        };
        let place = value.clamp(0.0, 1.0) * (stops.len() - 1) as f32;
        let below = (place as usize).min(stops.len() - 2);
        stops[below].mix(stops[below + 1], place - below as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_run_from_end_to_end() {
        for map in [ColourMap::Blues, ColourMap::Viridis, ColourMap::Diverging, ColourMap::Greys] {
            assert_eq!(map.at(-1.0), map.at(0.0));
            assert_eq!(map.at(9.0), map.at(1.0));
            assert_ne!(map.at(0.0), map.at(1.0));
        }
        assert_eq!(ColourMap::Greys.at(0.5), Colour(128, 128, 128));
        assert_eq!(ColourMap::Greys.at(f32::NAN), Colour(200, 200, 200));
        let brightness: Vec<f32> = (0..=20).map(|i| ColourMap::Viridis.at(i as f32 / 20.0).brightness()).collect();
        assert!(brightness.is_sorted());
    }
}
