//! A cloud as text for other programs.

use std::io::{self, Write};
use std::num::NonZero;

use super::cloud::{Cloud, Hour, Point};
use super::sums::Totals;
use super::texts::{Attribute, ID};

/// Into the middle of its hour goes the sample of a point.
const SAMPLE_AFTER_SECS: i64 = 1800;

/// For `promtool tsdb create-blocks-from openmetrics`: each resource has one sample in each hour.
pub fn write_open_metrics(cloud: &Cloud, out: &mut dyn Write) -> io::Result<()> {
    let texts = cloud.texts();
    let mut line = Vec::new();
    for metric in 0..cloud.size().metrics {
        let name = Cloud::metric(metric).name;
        writeln!(out, "# TYPE {name} gauge")?;
        for row in cloud.rows(0..cloud.size().scopes) {
            for hour in 0..cloud.size().hours {
                let point = cloud.point(Hour { metric, hour }, row);
                line.clear();
                write!(line, "{name}{{{}=\"", Cloud::SCOPE_KEY)?;
                line.extend_from_slice(texts.scopes.value(point.scope as usize).as_bytes());
                write!(line, "\",{ID}=\"")?;
                let id = texts.resources[metric as usize].value(row as usize);
                line.extend_from_slice(id.as_bytes());
                for attribute in Attribute::ALL {
                    let value = texts.of(attribute).value(attribute.of(&point) as usize);
                    write!(line, "\",{}=\"{value}", attribute.name())?;
                }
                line.extend_from_slice(b"\"} ");
                push_decimal(&mut line, u128::from(point.qty), Point::QTY_SCALE);
                let at_secs = cloud.period(hour).begin_secs() + SAMPLE_AFTER_SECS;
                writeln!(line, " {at_secs}")?;
                out.write_all(&line)?;
            }
        }
    }
    writeln!(out, "# EOF")
}

/// CSV with a line for each point, hour by hour; made by several threads.
pub fn write_rows(cloud: &Cloud, out: &mut dyn Write, threads: NonZero<usize>) -> io::Result<()> {
    write!(out, "begin,type,{},{ID}", Cloud::SCOPE_KEY)?;
    for attribute in Attribute::ALL {
        write!(out, ",{}", attribute.name())?;
    }
    writeln!(out, ",qty,price")?;
    let mut hours = cloud.hours();
    loop {
        let next: Vec<Hour> = hours.by_ref().take(threads.get()).collect();
        if next.is_empty() {
            return Ok(());
        }
        let texts = std::thread::scope(|scope| {
            let render = |hour| scope.spawn(move || rows_of(cloud, hour));
            let workers: Vec<_> = next.into_iter().map(render).collect();
            let end = |panic| std::panic::resume_unwind(panic);
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(end))
                .collect::<Vec<Vec<u8>>>()
        });
        texts.iter().try_for_each(|text| out.write_all(text))?;
    }
}

fn rows_of(cloud: &Cloud, hour: Hour) -> Vec<u8> {
    let texts = cloud.texts();
    let begin = cloud.period(hour.hour).begin().format("%Y-%m-%d %H:%M:%S");
    let head = format!("{begin},{}", Cloud::metric(hour.metric).alt_name);
    let mut lines = Vec::new();
    for row in cloud.rows(0..cloud.size().scopes) {
        let point = cloud.point(hour, row);
        let mut push = |text: &str| {
            lines.extend_from_slice(text.as_bytes());
            lines.push(b',');
        };
        push(&head);
        push(texts.scopes.value(point.scope as usize));
        push(texts.resources[hour.metric as usize].value(row as usize));
        for attribute in Attribute::ALL {
            push(texts.of(attribute).value(attribute.of(&point) as usize));
        }
        push_decimal(&mut lines, u128::from(point.qty), Point::QTY_SCALE);
        lines.push(b',');
        push_decimal(&mut lines, u128::from(point.price), Point::PRICE_SCALE);
        lines.push(b'\n');
    }
    lines
}

/// CSV with a line for each group: its keys, the sums of quantity and price, the number of points.
pub fn write_totals(totals: &Totals<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    for (keys, sums) in totals.groups() {
        line.clear();
        for key in keys {
            line.extend_from_slice(key.as_bytes());
            line.push(b',');
        }
        push_decimal(&mut line, sums.qty, Point::QTY_SCALE);
        line.push(b',');
        push_decimal(&mut line, sums.price, Point::PRICE_SCALE);
        writeln!(line, ",{}", sums.rows)?;
        out.write_all(&line)?;
    }
    Ok(())
}

/// `value` x 10^-`scale`, all digits.
fn push_decimal(line: &mut Vec<u8>, value: u128, scale: u8) {
    const DIGITS_MAX: usize = 40;
    let mut digits = [b'0'; DIGITS_MAX];
    let (mut rest, mut begin) = (value, DIGITS_MAX);
    while rest > 0 || DIGITS_MAX - begin <= usize::from(scale) {
        begin -= 1;
        digits[begin] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    let point = DIGITS_MAX - usize::from(scale);
    line.extend_from_slice(&digits[begin..point]);
    if scale > 0 {
        line.push(b'.');
        line.extend_from_slice(&digits[point..]);
    }
}
