//! Draws the Mandelbrot set into a PNG file, one task for each row of the picture.
//!
//! A row costs as many steps as its points need to escape, several times more in some rows than in others: fixed shares
//! would leave cores idle. The rows come back in order and go straight into the PNG encoder, so the picture is never in
//! memory whole.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use phalanx::Cluster;
use serde::{Deserialize, Serialize};

/// Draw the Mandelbrot set into a PNG file.
#[derive(Parser)]
#[command(after_help = "Example, the whole set: mandelbrot --centre=-0.6,0 --zoom 1 --iterations 1000")]
struct Options {
    /// Width of the picture in pixels
    #[arg(long, default_value_t = 1920, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    width: u32,
    /// Height of the picture in pixels
    #[arg(long, default_value_t = 1080, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    height: u32,
    /// Steps after which a point counts as inside
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Centre of the picture as RE,IM
    #[arg(long, default_value = "-0.743643887037151,0.13182590420533", value_parser = parse_centre, allow_hyphen_values = true)]
    centre: (f64, f64),
    /// Magnification; 1 shows the whole set
    #[arg(long, default_value_t = 2e5, value_parser = parse_zoom)]
    zoom: f64,
    /// The file to write
    #[arg(long, default_value = "mandelbrot.png")]
    output: PathBuf,
}

/// The part of the complex plane to draw, and how.
#[derive(Serialize, Deserialize)]
struct Scene {
    width: u32,
    height: u32,
    centre: (f64, f64),
    /// Side of a pixel in the complex plane.
    pixel: f64,
    iterations: u32,
}

/// Each pixel is the mean of this many samples squared.
const SAMPLES: u32 = 2;
/// A point beyond this distance from 0 never returns. Far more than 2, so that the colours have no bands.
const ESCAPE_RADIUS: f64 = 256.0;

/// Draws one row: red, green and blue of each pixel from left to right.
#[phalanx::kernel]
fn render(row: u64, scene: &Scene) -> Vec<u8> {
    let step = scene.pixel / f64::from(SAMPLES);
    let left = scene.centre.0 - scene.pixel * f64::from(scene.width) / 2.0 + step / 2.0;
    let top = scene.centre.1 + scene.pixel * f64::from(scene.height) / 2.0 - step / 2.0;
    let mut pixels = Vec::with_capacity(scene.width as usize * 3);
    for column in 0..scene.width {
        let mut sum = [0.0; 3];
        for sample in 0..SAMPLES * SAMPLES {
            let re = left + step * f64::from(column * SAMPLES + sample % SAMPLES);
            let im = top - step * (row as f64 * f64::from(SAMPLES) + f64::from(sample / SAMPLES));
            let colour = colour(escape(re, im, scene.iterations));
            for channel in 0..3 {
                sum[channel] += colour[channel];
            }
        }
        pixels.extend(sum.map(|channel| (channel / f64::from(SAMPLES * SAMPLES)).round() as u8));
    }
    pixels
}

/// Returns after how many steps of z = z² + c the point leaves the circle, with a fraction that makes neighbours differ
/// smoothly; `None` if it does not within the limit.
fn escape(re: f64, im: f64, iterations: u32) -> Option<f64> {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..iterations {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > ESCAPE_RADIUS * ESCAPE_RADIUS {
            let overshoot = ((xx + yy).ln() / (2.0 * ESCAPE_RADIUS.ln())).log2();
            return Some(f64::from(step) - overshoot);
        }
        y = 2.0 * x * y + im;
        x = xx - yy + re;
    }
    None
}

/// Colours that the logarithm of the steps to escape runs through, over and over.
const PALETTE: [[f64; 3]; 6] = [
    [5.0, 8.0, 40.0],
    [22.0, 76.0, 158.0],
    [120.0, 190.0, 232.0],
    [248.0, 246.0, 228.0],
    [250.0, 172.0, 40.0],
    [120.0, 28.0, 24.0],
];

/// Colours passed when the steps to escape double.
const COLOURS_PER_OCTAVE: f64 = 2.0;

/// Returns the colour of a point from its steps to escape; black inside the set.
fn colour(steps: Option<f64>) -> [f64; 3] {
    let Some(steps) = steps else { return [0.0; 3] };
    let position = (steps.max(0.0) + 1.0).log2() * COLOURS_PER_OCTAVE;
    let (index, fraction) = (position as usize, position.fract());
    let (from, to) = (
        PALETTE[index % PALETTE.len()],
        PALETTE[(index + 1) % PALETTE.len()],
    );
    let blend = fraction * fraction * (3.0 - 2.0 * fraction);
    [0, 1, 2].map(|channel| from[channel] + (to[channel] - from[channel]) * blend)
}
impl Scene {
    /// Works out the size of a pixel.
    ///
    /// # Errors
    ///
    /// When a pixel would be so small that neighbours have the same coordinates.
    fn new(options: &Options) -> Result<Scene, String> {
        const SIDE_AT_ZOOM_1: f64 = 2.5;
        const PIXEL_MIN: f64 = 1e-15;
        let &Options {
            width,
            height,
            iterations,
            centre,
            zoom,
            ..
        } = options;
        let pixel = SIDE_AT_ZOOM_1 / zoom / f64::from(height);
        if pixel < PIXEL_MIN {
            let deepest = SIDE_AT_ZOOM_1 / PIXEL_MIN / f64::from(height);
            return Err(format!(
                "cannot draw at zoom {zoom:e}: neighbouring pixels would have the same 64-bit coordinates\n\n\
                 hint: with {height} rows the deepest is --zoom {deepest:.1e}"
            ));
        }
        Ok(Scene {
            width,
            height,
            centre,
            pixel,
            iterations,
        })
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let scene = Scene::new(&options)?;
    let output = create(&options.output)?;
    let cluster = Cluster::connect_or_embedded()?;

    let started = Instant::now();
    let mut encoder = png::Encoder::new(output, scene.width, scene.height);
    encoder.set_color(png::ColorType::Rgb);
    let mut file = encoder.write_header()?;
    let mut picture = file.stream_writer()?;
    for row in cluster
        .map::<render>(0..u64::from(scene.height))
        .parameters(&scene)
        .progress_bar()
        .results()?
    {
        picture.write_all(&row?)?;
    }
    picture.finish()?;
    file.finish()?;

    let seconds = started.elapsed().as_secs_f64();
    let workers = cluster.workers()?;
    let cpus: u32 = workers.iter().map(|worker| worker.capacity.cpus).sum();
    println!(
        "{}: {} x {} pixels in {seconds:.1} s (workers: {}, cpus: {cpus})",
        options.output.display(),
        scene.width,
        scene.height,
        workers.len()
    );
    Ok(())
}

/// Creates the file before anything is computed for it.
fn create(path: &Path) -> Result<BufWriter<File>, String> {
    let file = File::create(path).map_err(|error| {
        format!(
            "cannot write {}: {error}\n\nhint: --output FILE names another",
            path.display()
        )
    })?;
    Ok(BufWriter::new(file))
}

/// Parses two numbers with a comma between them.
fn parse_centre(text: &str) -> Result<(f64, f64), String> {
    let usage = "write the real and the imaginary part with a comma between them, such as -0.75,0.1";
    let (re, im) = text.split_once(',').ok_or(usage)?;
    match (re.trim().parse::<f64>(), im.trim().parse::<f64>()) {
        (Ok(re), Ok(im)) if re.abs() <= 4.0 && im.abs() <= 4.0 => Ok((re, im)),
        (Ok(_), Ok(_)) => {
            Err("the set lies within 2 of 0,0; choose a centre with both parts within 4".into())
        }
        (_, _) => Err(usage.into()),
    }
}

/// Parses a magnification.
fn parse_zoom(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(zoom) if zoom >= 0.1 && zoom.is_finite() => Ok(zoom),
        Ok(_) => Err("it must be at least 0.1".into()),
        Err(_) => Err("write a number such as 1000 or 2e5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `mandelbrot --width 64 --height 36 --zoom 1 --centre=-0.5,0 --iterations 200` draws.
    const SCENE: Scene = Scene {
        width: 64,
        height: 36,
        centre: (-0.5, 0.0),
        pixel: 2.5 / 36.0,
        iterations: 200,
    };

    #[test]
    fn picture_is_the_one_that_the_end_to_end_test_expects() {
        let mut crc = flate2::Crc::new();
        for row in 0..36 {
            let pixels = render(row, &SCENE);
            assert_eq!(pixels.len(), 64 * 3);
            crc.update(&pixels);
        }
        assert_eq!(crc.sum(), 0xb4f5_b323, "{:#010x}", crc.sum());
    }

    #[test]
    fn rows_mirror_each_other_across_the_real_axis() {
        for row in 0..36 {
            assert_eq!(render(row, &SCENE), render(35 - row, &SCENE), "row {row}");
        }
    }

    #[test]
    fn points_of_the_set_never_escape_and_others_do() {
        for (re, im) in [(0.0, 0.0), (-1.0, 0.0), (-2.0, 0.0), (0.25, 0.0), (0.0, 1.0)] {
            assert_eq!(escape(re, im, 10_000), None, "{re},{im}");
        }
        for (re, im) in [(0.26, 0.0), (-2.0001, 0.0), (0.0, 1.01), (1.0, 1.0)] {
            assert!(escape(re, im, 10_000).is_some(), "{re},{im}");
        }
    }

    #[test]
    fn colours_have_no_bands() {
        // Along the real axis the steps to escape pass many whole numbers between these points.
        for index in 0..1000 {
            let (here, next) = (
                0.3 + 0.0001 * f64::from(index),
                0.3 + 0.0001 * f64::from(index + 1),
            );
            let (here, next) = (colour(escape(here, 0.0, 500)), colour(escape(next, 0.0, 500)));
            for channel in 0..3 {
                assert!(
                    (here[channel] - next[channel]).abs() < 2.0,
                    "{index}: {here:?} {next:?}"
                );
            }
        }
    }

    #[test]
    fn bad_arguments_are_named() {
        assert_eq!(parse_centre("-0.5, 1"), Ok((-0.5, 1.0)));
        assert!(parse_centre("7").is_err_and(|error| error.contains("comma")));
        assert!(parse_centre("nan,0").is_err_and(|error| error.contains("within")));
        assert!(parse_zoom("0").is_err_and(|error| error.contains("at least")));
        let options = Options::parse_from(["mandelbrot", "--zoom", "1e15"]);
        assert!(Scene::new(&options).is_err_and(|error| error.contains("2.3e12")));
    }
}
