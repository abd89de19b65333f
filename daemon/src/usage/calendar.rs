use chrono::{DateTime, Datelike, Utc};

/// The attributes that every row carries without storing them, in the order of
/// [`calendar_attributes`].
pub const CALENDAR_ATTRIBUTES: [&str; 4] = ["week_of_the_year", "day_of_the_year", "month", "year"];

/// What a row of a period that begins at `begin` carries as `CALENDAR_ATTRIBUTES`: decimal numbers
/// without padding.
///
/// A week begins on Sunday; the days before the year's first Sunday are in week 0 (`%U` of
/// strftime).
pub fn calendar_attributes(begin: DateTime<Utc>) -> [(&'static str, String); 4] {
    let [week_name, day_name, month_name, year_name] = CALENDAR_ATTRIBUTES;
    let week = (begin.ordinal0() + 7 - begin.weekday().num_days_from_sunday()) / 7;
    [
        (week_name, week.to_string()),
        (day_name, begin.ordinal().to_string()),
        (month_name, begin.month().to_string()),
        (year_name, begin.year().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use chrono::{Days, TimeZone};

    use super::*;

    fn check(year: i32, month: u32, day: u32, expected: &str) {
        let begin = Utc.with_ymd_and_hms(year, month, day, 23, 0, 0).unwrap();

        let values = calendar_attributes(begin).map(|(_, value)| value);

        assert_eq!(values.join(" "), expected, "{begin}");
    }

    #[test]
    fn the_first_sunday_begins_week_one() {
        check(2015, 1, 1, "0 1 1 2015");
        check(2015, 1, 3, "0 3 1 2015");
        check(2015, 1, 4, "1 4 1 2015");
        check(2023, 1, 1, "1 1 1 2023");
        check(2024, 12, 31, "52 366 12 2024");
        check(2026, 11, 22, "47 326 11 2026");
    }

    #[test]
    fn the_week_is_that_of_strftime_on_every_day_of_forty_years() {
        let first = Utc.with_ymd_and_hms(1999, 1, 1, 0, 0, 0).unwrap();
        for day in 0..40 * 366 {
            let begin = first.checked_add_days(Days::new(day)).unwrap();
            let week: u32 = begin.format("%U").to_string().parse().unwrap();

            assert_eq!(calendar_attributes(begin)[0].1, week.to_string(), "{begin}");
        }
    }
}
