//! Two solvers that do not share their code's mistakes: cvc5 1.0.3 as Debian builds it, and the far newer
//! library in the Python package `cvc5`, behind a small script. Every question goes to both, and an answer
//! counts only if both give it.

use std::process::Command;

use cedar_policy_symcc::{
    CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env, err::Result, solver::LocalSolver,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/symbolic/cvc5_stdio.py");

const HOW: &str = "This test proves the policies with two versions of the solver cvc5 and is never skipped.\n\
    One is a program:        apt-get install cvc5            (or GANGLINE_CVC5=/path/to/cvc5)\n\
    the other is in Python:  python3 -m venv DIR && DIR/bin/pip install cvc5==1.4.2\n\
    and is told of by        GANGLINE_CVC5_PYTHON=DIR/bin/python";

struct One {
    name: String,
    compiler: CedarSymCompiler<LocalSolver>,
}

impl One {
    /// Starts a solver, or says how to get it.
    fn start(what: &str, command: &[String], arguments: &[&str]) -> Self {
        let asked = Command::new(&command[0]).args(&command[1..]).arg("--version").output();
        let output =
            asked.unwrap_or_else(|e| panic!("{what} cannot be started ({}: {e}).\n{HOW}", command[0]));
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let version = said.lines().next().unwrap_or_default().trim_start_matches("This is ");
        if !output.status.success() || !version.contains("cvc5") {
            panic!("{what} does not say that it is cvc5: {said}{complained}\n{HOW}");
        }
        let mut command = {
            let mut with = tokio::process::Command::new(&command[0]);
            with.args(&command[1..]).args(arguments).kill_on_drop(true);
            with
        };
        let solver = LocalSolver::from_command(&mut command).unwrap();
        Self { name: version.to_owned(), compiler: CedarSymCompiler::new(solver).unwrap() }
    }
}

/// Both solvers.
pub struct Solvers {
    both: [One; 2],
    runtime: tokio::runtime::Runtime,
    /// Questions that both have answered.
    pub asked: usize,
}

/// The same question to both, who must agree.
macro_rules! ask {
    ($self:ident, $question:ident($($about:expr),+)) => {{
        let [one, other] = &mut $self.both;
        $self.asked += 1;
        let answers: [Result<_>; 2] = $self.runtime.block_on(async {
            [
                one.compiler.$question($($about),+).await,
                other.compiler.$question($($about),+).await,
            ]
        });
        let names = [one.name.as_str(), other.name.as_str()];
        let [a, b] = answers.map(|answer| answer.unwrap_or_else(|e| panic!("asking {names:?}: {e}")));
        (a, b, names)
    }};
}

impl Solvers {
    /// Starts both.
    pub fn start() -> Self {
        let var = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let program = [var("GANGLINE_CVC5", "cvc5")];
        let python = [var("GANGLINE_CVC5_PYTHON", "python3"), SCRIPT.to_owned()];
        let both = [
            One::start("cvc5", &program, &["--lang", "smt", "--tlimit-per=30000"]),
            One::start("cvc5 in Python", &python, &[]),
        ];
        drop(entered);
        assert_ne!(both[0].name, both[1].name, "the same solver twice is not two.\n{HOW}");
        Self { both, runtime, asked: 0 }
    }

    /// A request that `set` allows and `bound` does not, if there is one.
    pub fn beyond(&mut self, set: &CompiledPolicySet, bound: &CompiledPolicySet) -> Option<Env> {
        let (a, b, names) = ask!(self, check_implies_with_counterexample_opt(set, bound));
        assert_eq!(a.is_none(), b.is_none(), "{names:?} disagree: {a:?} and {b:?}");
        a
    }

    /// Whether no request is matched by both policies.
    pub fn apart(&mut self, one: &CompiledPolicy, other: &CompiledPolicy) -> bool {
        let (a, b, names) = ask!(self, check_matches_disjoint_opt(one, other));
        assert_eq!(a, b, "{names:?} disagree on whether two policies are apart");
        a
    }

    /// Whether the policy can be evaluated on every request.
    pub fn never_fails(&mut self, policy: &CompiledPolicy) -> bool {
        let (a, b, names) = ask!(self, check_never_errors_opt(policy));
        assert_eq!(a, b, "{names:?} disagree on whether a policy can fail");
        a
    }

    /// The solvers' names.
    pub fn names(&self) -> [&str; 2] {
        [&self.both[0].name, &self.both[1].name]
    }
}
