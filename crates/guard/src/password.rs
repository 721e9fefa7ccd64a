//! Which passwords are taken: long ones that nobody guesses early. No rule asks for kinds of characters, and nothing is
//! changed or cut. It knows no hash and keeps nothing.

use gangline_types::Label;

/// Shortest password, in characters.
pub const CHARACTERS_MIN: usize = 15;
/// Longest, in bytes: more is no better, and hashing has to end.
pub const BYTES_MAX: usize = 256;

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Too short.
    #[error("it has fewer than {CHARACTERS_MIN} characters")]
    Short,
    /// Too long.
    #[error("it is longer than {BYTES_MAX} bytes")]
    Long,
    /// One of those that are tried first, or made of such.
    #[error(
        "it is among those that are guessed first: words and rows of keys that many use, or one thing over and over"
    )]
    Common,
    /// Made of what anybody knows of this account or network.
    #[error("it is made of names that belong to this account or network")]
    Known,
}

/// What people choose most, in small letters, longest first where one holds another. A password that is nothing but
/// these, digits and signs is guessed early, however long.
const COMMON: &[&str] = &[
    "administrator",
    "correcthorsebatterystaple",
    "letmeinplease",
    "trustno1",
    "iloveyou",
    "password",
    "passphrase",
    "passwort",
    "motdepasse",
    "contrasena",
    "changeme",
    "whatever",
    "football",
    "baseball",
    "basketball",
    "superman",
    "batman",
    "spiderman",
    "princess",
    "sunshine",
    "starwars",
    "computer",
    "internet",
    "samsung",
    "mercedes",
    "corvette",
    "liverpool",
    "chelsea",
    "arsenal",
    "barcelona",
    "pokemon",
    "minecraft",
    "michael",
    "jennifer",
    "jessica",
    "michelle",
    "charlie",
    "thomas",
    "jordan",
    "hunter",
    "ashley",
    "daniel",
    "andrew",
    "joshua",
    "monkey",
    "dragon",
    "shadow",
    "master",
    "welcome",
    "letmein",
    "flower",
    "summer",
    "winter",
    "spring",
    "autumn",
    "secret",
    "freedom",
    "cookie",
    "cheese",
    "banana",
    "orange",
    "purple",
    "silver",
    "golden",
    "diamond",
    "tigger",
    "killer",
    "soccer",
    "hockey",
    "ranger",
    "buster",
    "ginger",
    "pepper",
    "access",
    "qwerty",
    "azerty",
    "qwertz",
    "asdf",
    "zxcv",
    "abcd",
    "admin",
    "login",
    "root",
    "test",
    "guest",
    "user",
    "pass",
    "love",
    "hello",
    "angel",
    "lovely",
    "baby",
    "god",
    "fuck",
    "sex",
    "the",
    "and",
    "for",
    "you",
    "my",
    "is",
    "this",
    "it",
    "please",
    "account",
    "default",
    "gpu",
    "nvidia",
    "crypto",
    "bitcoin",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Rows of keys, and letters and digits in order, each to be met forwards and backwards.
const ROWS: &[&str] = &[
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Whether a password is taken. `known` is what anybody knows of the account and the network: names, addresses.
///
/// # Errors
/// [`Weak`] says why not.
pub fn check(password: &str, known: &[&str]) -> Result<(), Weak> {
    if password.chars().count() < CHARACTERS_MIN {
        return Err(Weak::Short);
    }
    if password.len() > BYTES_MAX {
        return Err(Weak::Long);
    }
    let plain = plain(password);
    if plain.chars().count() < 6 || is_repeated(&plain) || left(&plain, COMMON) < 6 {
        return Err(Weak::Common);
    }
    // Three characters of a name are anybody's.
    let known: Vec<String> = known
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .map(self::plain)
        .filter(|part| part.len() > 3)
        .collect();
    let mut of_both: Vec<&str> = known.iter().map(String::as_str).chain(["gangline"]).collect();
    of_both.extend(COMMON);
    if left(&plain, &of_both) < 6 {
        return Err(Weak::Known);
    }
    Ok(())
}

/// In small letters, without what stands between letters and digits, and with the letters that some digits and signs
/// stand for.
fn plain(text: &str) -> String {
    let letter = |c: char| match c {
        '@' => 'a',
        '$' => 's',
        other => other,
    };
    text.chars().map(letter).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether it is one thing of at most eight characters over and over.
fn is_repeated(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (1..=8)
        .any(|width| chars.len() > width && chars.iter().enumerate().all(|(at, c)| *c == chars[at % width]))
}

/// How many letters are left without these words and without rows of keys of four or more. Digits count for nothing
/// by themselves: a date and a counter are guessed with the word before them.
fn left(text: &str, words: &[&str]) -> usize {
    let spelled = |text: &str| -> String {
        let letter = |c: char| match c {
            '0' => 'o',
            '1' => 'l',
            '3' => 'e',
            '4' => 'a',
            '5' => 's',
            '7' => 't',
            other => other,
        };
        text.chars().map(letter).collect()
    };
    let mut longest: Vec<&str> = words.to_vec();
    longest.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let without = |text: &str| {
        let mut rest = text.to_owned();
        for row in ROWS {
            let back: String = row.chars().rev().collect();
            for row in [*row, back.as_str()] {
                for width in (4..=row.len()).rev() {
                    for start in 0..=row.len() - width {
                        rest = rest.replace(&row[start..start + width], " ");
                    }
                }
            }
        }
        for word in &longest {
            rest = rest.replace(word, " ");
        }
        rest.chars().filter(|c| c.is_alphabetic()).count()
    };
    // As it is written, and as it is meant where digits stand for letters.
    without(text).min(without(&spelled(text)))
}

/// The name to sign in with, if it is one: 3 to 64 small letters, digits, dots, dashes and underscores.
pub fn login(text: &str) -> Option<Label> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    ((3..=64).contains(&text.len()) && text.chars().all(is_name)).then(|| Label::lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_not_taken_however_long() {
        let known = ["Ada Lovelace", "ada.l", "https://10.0.0.7:7700", "North Shed"];
        let check = |password: &str, expected: Result<(), Weak>| {
            assert_eq!(super::check(password, &known), expected, "{password:?}");
        };
        check("", Err(Weak::Short));
        check("kestrel obelis", Err(Weak::Short));
        check(&"ab cd ef gh kestrel ".repeat(13), Err(Weak::Long));
        for common in [
            "passwordpassword",
            "password12345678",
            "P@ssw0rdP@ssw0rd!",
            "123456789012345",
            "111111111111111",
            "aaaaaaaaaaaaaaa",
            "abcabcabcabcabc",
            "qwertyuiopasdfghjkl",
            "qwertyuiop1234567890",
            "abcdefghijklmnop",
            "zyxwvutsrqponmlk",
            "iloveyouiloveyou",
            "letmeinplease2026!!",
            "1q2w3e4r5t6y7u8i9o",
            "monkeydragonmaster",
            "correct horse battery staple",
            "password - password - password",
            "               ",
            "!!!!!!!!!!!!!!!!!!!",
            "welcome to the default account",
            "Summer2026!Summer2026!",
            "trustno1trustno1",
        ] {
            check(common, Err(Weak::Common));
        }
        for of_this in
            ["ada lovelace 1815!", "northshed-northshed", "Gangline2026Gangline", "lovelaceLovelace99"]
        {
            check(of_this, Err(Weak::Known));
        }
        // Long and one's own: any characters, with spaces, in any language, nothing demanded.
        for good in [
            "kestrel obelisk wry",
            "vier laute moewen im nebel",
            "onze pinguins bleus",
            "gzxkqpwmvnrtyhj",
            "тихая вода точит",
            "雨が降る前に帰りましょうねえ本当に",
            "My cat sings at 4 in the night",
        ] {
            check(good, Ok(()));
        }
    }

    #[test]
    fn a_name_to_sign_in_with_is_plain() {
        for good in ["ada", "ada.l-2_x", "a".repeat(64).as_str()] {
            assert_eq!(login(good).map(|l| l.to_string()).as_deref(), Some(good));
        }
        for bad in ["", "ab", "Ada", "ada l", "ada@x", "\u{430}da", "a".repeat(65).as_str()] {
            assert_eq!(login(bad), None, "{bad:?}");
        }
    }
}
