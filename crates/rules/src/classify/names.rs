//! Names of models, made comparable: drivers, makers and tables spell one model in several ways.
//!
//! Knows words; not which models exist.

/// Words that say nothing about which model it is.
const SILENT: [&str; 16] = [
    "geforce",
    "radeon",
    "nvidia",
    "amd",
    "ati",
    "intel",
    "corporation",
    "graphics",
    "series",
    "tm",
    "r",
    "c",
    "opencl",
    "cuda",
    "display",
    "generation",
];

/// The words of a model's name that tell it from others, in order: small letters, with no maker, no
/// parentheses and no trade marks, and digits apart from letters, so that `NVIDIA GeForce GTX 1060 6GB` and
/// `GeForce GTX 1060 6 GB` are the same.
pub fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    let mut depth = 0u32;
    for c in name.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            c if depth == 0 && c.is_ascii_alphanumeric() => {
                let c = c.to_ascii_lowercase();
                let goes_on = last.is_ascii_alphanumeric() && last.is_ascii_digit() == c.is_ascii_digit();
                match words.last_mut() {
                    Some(word) if goes_on => word.push(c),
                    _ => words.push(c.to_string()),
                }
                last = c;
                continue;
            }
            _ => {}
        }
        last = ' ';
    }
    words.retain(|word| !SILENT.contains(&word.as_str()));
    words
}

/// Whether `claim` names `model`: the same words, or the beginning of them (`GeForce GTX 1060` names each of
/// its sizes). One word alone is too little to begin with: `Iris` is not `Iris Xe MAX`.
pub fn names(claim: &[String], model: &[String]) -> bool {
    claim == model || claim.len() > 1 && model.starts_with(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_in_several_spellings_is_one() {
        let same = |a: &str, b: &str| assert_eq!(words(a), words(b));
        same("NVIDIA GeForce GTX 1060 6GB", "GeForce GTX 1060 6 GB");
        same("NVIDIA A100-SXM4-40GB", "A100 SXM4 40 GB");
        same("Tesla V100-PCIE-32GB", "Tesla V100 PCIe 32 GB");
        same("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Radeon RX 7900 XTX");
        same("Intel(R) Arc(TM) A770 Graphics", "Arc A770");
        same("GeForce RTX 2080 Ti", "RTX 2080 Ti");
        assert_ne!(words("Quadro RTX 4000"), words("RTX 4000"));
        assert_ne!(words("GeForce RTX 2080"), words("GeForce RTX 2080 Ti"));
        assert!(words("(((").is_empty());
    }

    #[test]
    fn a_short_name_names_every_longer_one_and_never_the_other_way() {
        let check = |claim, model, expected| assert_eq!(names(&words(claim), &words(model)), expected);
        check("GeForce GTX 1060", "GeForce GTX 1060 3 GB", true);
        check("GeForce GTX 1060 6GB", "GeForce GTX 1060 3 GB", false);
        check("GeForce RTX 2080 Ti", "GeForce RTX 2080", false);
        check("Iris", "Iris Xe MAX Graphics", false);
        check("", "GeForce RTX 2080", false);
    }
}
