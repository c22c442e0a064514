//! Charts of empty, tiny and hostile data: always a picture, never a panic.

use etude_train::metrics::Confusion;
use etude_train::plot::*;

/// Width, height and the share of pixels that are not white.
fn look(png: &[u8]) -> (usize, usize, f64) {
    let path = std::env::temp_dir().join(format!(
        "etude-picture-{}-{:?}.png",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, png).unwrap();
    let picture = Picture::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let inked = picture.pixels().chunks(3).filter(|p| *p != [255; 3]).count();
    (picture.width(), picture.height(), inked as f64 / (picture.width() * picture.height()) as f64)
}

#[test]
fn charts_of_any_numbers() {
    let odd = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0, 1e-320, 5.0];
    let charts = [
        Chart::new(""),
        Chart::new("empty").line("a", [], []),
        Chart::new("one").line("a", [1.0], [2.0]),
        Chart::new("odd").line("a", odd, odd).dots("b", odd, odd).band("c", odd, odd, odd),
        Chart::new("log").scales(Scale::Log, Scale::Log).line("a", odd, odd).columns("b", odd, odd, 0.5),
        Chart::new("log of nothing").scales(Scale::Log, Scale::Log).line("a", [-1.0, 0.0], [-2.0, 0.0]),
        Chart::new("range").x_range(5.0, 5.0).y_range(f64::NAN, 1.0).line("a", [1.0, 2.0], [2.0, 3.0]),
        Chart::new("a title much too long for so small a picture").size(60.0, 40.0).line(
            "a name too long",
            [1.0, 2.0],
            [2.0, 1.0],
        ),
        Chart::bars("no bars", &[] as &[&str], &[]),
        Chart::histogram("nothing", &[], 0),
        Chart::new("no cells").regions((0.0, 1.0), (0.0, 1.0), 0, 0, vec![]),
        Chart::new("guides").level(f64::NAN, "a").mark(0.5, "b").line("", [0.0, 1.0], [0.0, 1.0]).equal(),
    ];
    for chart in charts {
        let (width, height, _) = look(&chart.to_png().unwrap());
        assert!(width >= 100 && height >= 80);
    }
}

#[test]
fn a_line_is_where_it_belongs() {
    let chart = |ys: [f64; 2]| Chart::new("").size(200.0, 100.0).y_range(0.0, 1.0).line("", [0.0, 1.0], ys).dashed();
    let (_, _, low) = look(&chart([0.0, 0.0]).to_png().unwrap());
    let empty = look(&Chart::new("").size(200.0, 100.0).y_range(0.0, 1.0).x_range(-0.015, 1.015).to_png().unwrap()).2;
    assert!(low > empty, "a line adds ink");
    assert_ne!(chart([0.0, 1.0]).to_png().unwrap(), chart([1.0, 0.0]).to_png().unwrap());
    assert_eq!(
        chart([0.0, 1.0]).to_png().unwrap(),
        chart([0.0, 1.0]).to_png().unwrap(),
        "the same data, the same bytes"
    );
}

#[test]
fn heat_maps_and_sheets_of_any_size() {
    for (rows, columns) in [(0, 0), (1, 1), (1, 300), (200, 3), (100, 100)] {
        let map = HeatMap::new("map", rows, columns, vec![0.5; rows * columns]).numbers(2);
        look(&map.to_png().unwrap());
    }
    let nan = HeatMap::new("nan", 1, 2, vec![f64::NAN, f64::INFINITY]);
    look(&nan.to_png().unwrap());
    let names: Vec<String> = (0..100).map(|c| format!("class number {c}")).collect();
    let (width, height, _) = look(&confusion("hundred", &Confusion::new(100), &names).to_png().unwrap());
    assert!(width < 4000 && height < 4000);

    look(&Images::new("none").to_png().unwrap());
    let one = Picture::grey(1, 1, &[0.0]);
    let (_, _, ink) = look(&Images::new("").picture(one.clone()).to_png().unwrap());
    assert!(ink > 0.2, "{ink}");
    let wide = Picture::grey(300, 2, &[0.0; 600]);
    look(
        &Images::new("mixed")
            .picture(one)
            .captioned(wide, "a caption that is far too long", Colour::BAD)
            .to_png()
            .unwrap(),
    );
    look(&Images::new("empty picture").picture(Picture::from_rgb(0, 0, vec![])).to_png().unwrap());
    look(&Page::new(3).to_png().unwrap());
}
