//! What the policies allow, proved by solvers over every request and every entity that the schema admits,
//! and not over examples. The bounds below say a second time, and apart from `allow.cedar`, who may do what
//! at most. A bound that would not notice a breach is worth nothing, so breaches are planted and must be found.
//!
//! This proves the policies. That entities are built as the schema has them is tested beside the code that
//! builds them, and that nothing is written unasked is [`Permit`](gangline_guard::Permit)'s work.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod solvers;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Decision, Entities, Policy, PolicySet, RequestEnv, Schema, ValidationMode, Validator,
};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use gangline_wire::Action;
use solvers::Solvers;

const SCHEMA: &str = include_str!("../../policy/gangline.cedarschema");
const ALLOW: &str = include_str!("../../policy/allow.cedar");
const HIDE: &str = include_str!("../../policy/hide.cedar");

/// Who may do these actions at most, as policies that allow just that.
struct Bound {
    says: &'static str,
    actions: &'static [Action],
    at_most: &'static str,
}

const BOUNDS: &[Bound] = &[
    Bound {
        says: "only a machine describes, beats, proves and supplies, and only for itself",
        actions: &[Action::DescribeMachine, Action::Beat, Action::ProveGpu, Action::Supply],
        at_most: "permit (principal is Who::Machine, action, resource is On::Machine)
            when { resource.machine == principal && resource.account == principal.account };",
    },
    Bound {
        says: "only its machine and its supplier in a browser name a GPU",
        actions: &[Action::LabelGpu],
        at_most: r#"permit (principal is Who::Machine, action, resource is On::Gpu)
            when { resource.machine == principal && resource.account == principal.account };
            permit (principal is Who::Person, action, resource is On::Gpu)
            when { principal.account == resource.account && principal.role == Who::Role::"supplier" };"#,
    },
    Bound {
        says: "only a machine itself, its supplier and an operator retire it",
        actions: &[Action::RetireMachine],
        at_most: r#"permit (principal is Who::Machine, action, resource is On::Machine)
            when { resource.machine == principal && resource.account == principal.account };
            permit (principal is Who::Person, action, resource is On::Machine)
            when { principal.role == Who::Role::"operator" ||
                (principal.role == Who::Role::"supplier" && principal.account == resource.account) };
            permit (principal is Who::CommandLine, action, resource is On::Machine)
            when { principal.role == Who::Role::"operator" ||
                (principal.role == Who::Role::"supplier" && principal.account == resource.account) };"#,
    },
    Bound {
        says: "only the verifier judges",
        actions: &[Action::Judge],
        at_most: r#"permit (principal == Who::Job::"verifier", action, resource);"#,
    },
    Bound {
        says: "only the accountant takes snapshots",
        actions: &[Action::TakeSnapshot],
        at_most: r#"permit (principal == Who::Job::"accountant", action, resource);"#,
    },
    Bound {
        says: "only the reconciler reconciles",
        actions: &[Action::Reconcile],
        at_most: r#"permit (principal == Who::Job::"reconciler", action, resource);"#,
    },
    Bound {
        says: "only the projector projects",
        actions: &[Action::Project],
        at_most: r#"permit (principal == Who::Job::"projector", action, resource);"#,
    },
    Bound {
        says: "only the set-up at the console simulates machines",
        actions: &[Action::Simulate],
        at_most: r#"permit (principal == Who::Job::"setup", action, resource);"#,
    },
    Bound {
        says: "only the set-up at the console moves the books",
        actions: &[Action::MoveBooks],
        at_most: r#"permit (principal == Who::Job::"setup", action, resource);"#,
    },
    Bound {
        says: "only the watcher opens incidents and freezes by rule",
        actions: &[Action::Watch],
        at_most: r#"permit (principal == Who::Job::"watcher", action, resource);"#,
    },
    Bound {
        says: "only an operator freezes, thaws, restores, moves calibrations and closes incidents",
        actions: &[Action::Contain, Action::Freeze, Action::Thaw, Action::Restore, Action::MoveCalibration],
        at_most: r#"permit (principal is Who::Person, action, resource)
            when { principal.role == Who::Role::"operator" };
            permit (principal is Who::CommandLine, action, resource)
            when { principal.role == Who::Role::"operator" };"#,
    },
    Bound {
        says: "only an operator asks for an approval, and only for themselves",
        actions: &[Action::AskApproval],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Account)
            when { principal.role == Who::Role::"operator" && resource.account == principal.account };
            permit (principal is Who::CommandLine, action, resource is On::Account)
            when { principal.role == Who::Role::"operator" && resource.account == principal.account };"#,
    },
    Bound {
        says: "nobody approves what they asked for themselves where another has to, nor by a key",
        actions: &[Action::DecideApproval],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Approval)
            when { principal.role == Who::Role::"operator" &&
                (if resource.approver == On::Approver::"another"
                 then resource.asked_by != principal.account
                 else resource.asked_by == principal.account) };"#,
    },
    Bound {
        says: "only an operator in a browser ends all sessions of an account",
        actions: &[Action::EndAccountSessions],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Account)
            when { principal.role == Who::Role::"operator" };"#,
    },
    Bound {
        says: "only an operator in a browser declines",
        actions: &[Action::DeclineApproval],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Approval)
            when { principal.role == Who::Role::"operator" };"#,
    },
    Bound {
        says: "only an operator in a browser and the set-up at the console invite",
        actions: &[Action::Invite],
        at_most: r#"permit (principal == Who::Job::"setup", action, resource);
            permit (principal is Who::Person, action, resource)
            when { principal.role == Who::Role::"operator" };"#,
    },
    Bound {
        says: "only a new key asks to be enrolled",
        actions: &[Action::RequestEnrolment],
        at_most: "permit (principal is Who::NewKey, action, resource);",
    },
    Bound {
        says: "only somebody in a browser decides on an enrolment, and on a machine's only a supplier",
        actions: &[Action::DecideEnrolment],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Enrolment)
            when { resource.kind == On::KeyKind::"command_line" ||
                (resource.kind == On::KeyKind::"machine" && principal.role == Who::Role::"supplier") };"#,
    },
    Bound {
        says: "a provider speaks only for those it vouches for",
        actions: &[Action::SignIn, Action::EndSessions],
        at_most: "permit (principal is Who::Vouched, action, resource is On::Identity)
            when { resource.vouched == principal };",
    },
    Bound {
        says: "only a renter's command line hires",
        actions: &[Action::Hire],
        at_most: r#"permit (principal is Who::CommandLine, action, resource)
            when { principal.role == Who::Role::"renter" };"#,
    },
    Bound {
        says: "only the renter who hired a cluster uses it",
        actions: &[Action::UseCluster],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Cluster)
            when { resource.renter == principal.account && principal.role == Who::Role::"renter" };
            permit (principal is Who::CommandLine, action, resource is On::Cluster)
            when { resource.renter == principal.account && principal.role == Who::Role::"renter" };"#,
    },
    Bound {
        says: "only the renter who hired a cluster and an operator release it",
        actions: &[Action::ReleaseCluster],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Cluster)
            when { principal.role == Who::Role::"operator" ||
                (resource.renter == principal.account && principal.role == Who::Role::"renter") };
            permit (principal is Who::CommandLine, action, resource is On::Cluster)
            when { principal.role == Who::Role::"operator" ||
                (resource.renter == principal.account && principal.role == Who::Role::"renter") };"#,
    },
    Bound {
        says: "an account is read only by whose it is",
        actions: &[Action::ReadAccount],
        at_most: "permit (principal is Who::Person, action, resource is On::Account)
            when { resource.account == principal.account };
            permit (principal is Who::CommandLine, action, resource is On::Account)
            when { resource.account == principal.account };",
    },
    Bound {
        says: "a key is ended only by whose it is and by an operator",
        actions: &[Action::RevokeKey],
        at_most: r#"permit (principal is Who::Person, action, resource is On::Key)
            when { resource.account == principal.account || principal.role == Who::Role::"operator" };
            permit (principal is Who::CommandLine, action, resource is On::Key)
            when { resource.account == principal.account || principal.role == Who::Role::"operator" };"#,
    },
    Bound {
        says: "only somebody in a browser touches the ways into an account, and only into their own",
        actions: &[Action::ManageWaysIn],
        at_most: "permit (principal is Who::Person, action, resource is On::Account)
            when { resource.account == principal.account };",
    },
    Bound {
        says: "a key is put in the place of another only by that one",
        actions: &[Action::RotateKey],
        at_most: "permit (principal is Who::Machine, action, resource is On::Key)
            when { resource.key == principal.key && resource.account == principal.account };
            permit (principal is Who::CommandLine, action, resource is On::Key)
            when { resource.key == principal.key && resource.account == principal.account };",
    },
    Bound {
        says: "only an operator sees the network from inside",
        actions: &[Action::Operate],
        at_most: r#"permit (principal is Who::Person, action, resource)
            when { principal.role == Who::Role::"operator" };
            permit (principal is Who::CommandLine, action, resource)
            when { principal.role == Who::Role::"operator" };"#,
    },
];

/// What anybody may do, so that there is nothing to bound: a link's secret, a passkey's signature and a password are
/// themselves what is asked for, and the routes that take them check them.
const OPEN: [Action; 4] = [Action::ReadPublic, Action::UseLink, Action::UsePasskey, Action::UsePassword];

fn schema(text: &str) -> Schema {
    Schema::from_cedarschema_str(text).unwrap().0
}

fn policies(text: &str) -> PolicySet {
    text.parse().unwrap()
}

fn word(env: &RequestEnv) -> &str {
    env.action().id().unescaped()
}

/// The bound on an action, if it has one.
fn bound(env: &RequestEnv) -> Option<&'static Bound> {
    BOUNDS.iter().find(|bound| bound.actions.iter().any(|action| action.as_str() == word(env)))
}

/// The first request that `set` allows beyond the bound on its action, with what that bound says. Goes over
/// every kind of asker, action and resource that the schema has.
fn breach(solvers: &mut Solvers, schema: &Schema, set: &PolicySet) -> Option<(&'static str, Env)> {
    for env in schema.request_envs() {
        let Some(bound) = bound(&env) else { continue };
        let allowed = CompiledPolicySet::compile(set, &env, schema).unwrap();
        let at_most = CompiledPolicySet::compile(&policies(bound.at_most), &env, schema).unwrap();
        if let Some(found) = solvers.beyond(&allowed, &at_most) {
            return Some((bound.says, found));
        }
    }
    None
}

fn allows(set: &PolicySet, found: &Env) -> bool {
    Authorizer::new().is_authorized(&found.request, set, &found.entities).decision() == Decision::Allow
}

/// A request and the two it is about. The model holds every other entity too, which says nothing.
fn told(found: &Env) -> String {
    let about = [found.request.principal(), found.request.resource()];
    let about: Vec<String> = about
        .into_iter()
        .flatten()
        .filter_map(|uid| found.entities.get(uid))
        .map(|entity| {
            let attributes: BTreeMap<&str, String> = entity
                .attrs()
                .map(|(name, value)| (name, value.map_or_else(|e| e.to_string(), |value| value.to_string())))
                .collect();
            format!("  {} {attributes:?}", entity.uid())
        })
        .collect();
    format!("{}\n{}", found.request, about.join("\n"))
}

/// A breach that was found is one: the engine that decides for the server allows it too, and without what was
/// planted it does not.
fn is_real(schema: &Schema, planted: &PolicySet, found: &Env) {
    Entities::from_entities(found.entities.iter().cloned(), Some(schema)).unwrap();
    assert!(allows(planted, found), "the counterexample is none: {}", told(found));
    assert!(!allows(&policies(ALLOW), found), "allowed without the planted policy, too: {}", told(found));
}

#[test]
fn every_action_is_bounded_or_open() {
    for action in Action::ALL {
        let bounded = BOUNDS.iter().filter(|bound| bound.actions.contains(action)).count();
        let expected = if OPEN.contains(action) { 0 } else { 1 };
        assert_eq!(bounded, expected, "bounds on {action}");
    }
}

#[test]
fn nobody_gets_beyond_the_bounds() {
    let (mut solvers, schema) = (Solvers::start(), schema(SCHEMA));
    if let Some((says, found)) = breach(&mut solvers, &schema, &policies(ALLOW)) {
        panic!("not so: {says}. Allowed is\n{}", told(&found));
    }
    let askers = schema.principals().collect::<BTreeSet<_>>().len();
    assert_eq!(solvers.asked, askers * (Action::ALL.len() - OPEN.len()), "every kind of asker, every action");
    println!("{} kinds of request proved by {:?}", solvers.asked, solvers.names());
}

/// A proof about policies that allow nothing would be worth nothing: each bound is reached by somebody.
#[test]
fn the_bounds_are_reached() {
    let (mut solvers, schema) = (Solvers::start(), schema(SCHEMA));
    for bound in BOUNDS {
        for action in bound.actions {
            let envs = schema.request_envs().filter(|env| word(env) == action.as_str());
            let reached = envs.into_iter().any(|env| {
                let set = CompiledPolicySet::compile(&policies(ALLOW), &env, &schema).unwrap();
                let nothing = CompiledPolicySet::compile(&PolicySet::new(), &env, &schema).unwrap();
                solvers.beyond(&set, &nothing).is_some()
            });
            assert!(reached, "nobody may {action}");
        }
    }
}

#[test]
fn no_two_policies_allow_the_same() {
    let (mut solvers, schema) = (Solvers::start(), schema(SCHEMA));
    let all = policies(ALLOW);
    let all: Vec<&Policy> = all.policies().collect();
    for env in schema.request_envs() {
        let compiled: Vec<(&Policy, CompiledPolicy)> = all
            .iter()
            .filter(|policy| policy.to_string().contains(&format!("\"{}\"", word(&env))))
            .map(|policy| (*policy, CompiledPolicy::compile(policy, &env, &schema).unwrap()))
            .collect();
        for (at, (one, a)) in compiled.iter().enumerate() {
            for (other, b) in &compiled[at + 1..] {
                assert!(solvers.apart(a, b), "both allow the same:\n{one}\n{other}");
            }
        }
    }
    assert!(solvers.asked >= 40, "{} questions are too few", solvers.asked);
}

/// The way in of 2024 and its relatives, each as the policy that would let it in.
#[test]
fn planted_breaches_are_found() {
    // The schema with a header from which a policy could read an owner: ours has no such field.
    let header = SCHEMA.replace(
        "    resource: On::Gpu\n",
        "    resource: On::Gpu,\n    context: { header_owner?: Who::Account }\n",
    );
    assert_ne!(header, SCHEMA);
    let mut solvers = Solvers::start();
    let mut check = |schema_text: &str, breach_text: &str, expected: &str| {
        let schema = schema(schema_text);
        let planted = policies(&format!("{ALLOW}\n{breach_text}"));
        let fits = Validator::new(schema.clone()).validate(&planted, ValidationMode::Strict);
        assert!(fits.validation_passed(), "must be a policy that would be used: {fits}");
        assert!(breach(&mut solvers, &schema, &policies(ALLOW)).is_none(), "a breach without any planted");
        let (says, found) =
            breach(&mut solvers, &schema, &planted).unwrap_or_else(|| panic!("not noticed: {breach_text}"));
        assert_eq!(says, expected, "{}", told(&found));
        is_real(&schema, &planted, &found);
        println!("planted: {breach_text}\nrefuted by: {}\n", told(&found));
    };
    let names = "only its machine and its supplier in a browser name a GPU";
    let beats = "only a machine describes, beats, proves and supplies, and only for itself";
    check(
        &header,
        r#"permit (principal is Who::Machine, action == Action::"label_gpu", resource is On::Gpu)
            when { context has header_owner && context.header_owner == resource.account };"#,
        names,
    );
    // Any machine of the account instead of the machine.
    check(
        SCHEMA,
        r#"permit (principal is Who::Machine, action == Action::"label_gpu", resource is On::Gpu)
            when { resource.account == principal.account };"#,
        names,
    );
    check(
        SCHEMA,
        r#"permit (principal is Who::Machine, action == Action::"beat", resource is On::Machine);"#,
        beats,
    );
    check(
        SCHEMA,
        r#"permit (principal is Who::Person, action == Action::"supply", resource is On::Machine)
            when { resource.account == principal.account };"#,
        beats,
    );
    check(
        SCHEMA,
        r#"permit (principal is Who::Job, action == Action::"judge", resource is On::Network);"#,
        "only the verifier judges",
    );
    check(
        SCHEMA,
        r#"permit (principal is Who::Person, action == Action::"invite", resource is On::Invitation)
            when { principal.role != Who::Role::"renter" };"#,
        "only an operator in a browser and the set-up at the console invite",
    );
    // Whoever asked approves it as well, and so does a key.
    let approvals = "nobody approves what they asked for themselves where another has to, nor by a key";
    check(
        SCHEMA,
        r#"permit (principal is Who::Person, action == Action::"decide_approval", resource is On::Approval)
            when { principal.role == Who::Role::"operator" && resource.asked_by == principal.account };"#,
        approvals,
    );
    check(
        SCHEMA,
        r#"permit (principal is Who::CommandLine, action == Action::"decide_approval", resource is On::Approval)
            when { principal.role == Who::Role::"operator" && resource.asked_by != principal.account };"#,
        approvals,
    );
}

/// Every policy with a condition, without it: no bound may fail to notice. `operator-ends-keys` excepts the
/// operator's own keys, which is for the reason's sake, and still asks for the operator.
#[test]
fn a_lost_condition_is_found() {
    let (mut solvers, schema) = (Solvers::start(), schema(SCHEMA));
    let all = policies(ALLOW);
    let mut lost = 0;
    for policy in all.policies() {
        let mut json = policy.to_json().unwrap();
        let conditions = json.get_mut("conditions").and_then(|list| list.as_array_mut()).unwrap();
        if conditions.is_empty() {
            continue;
        }
        conditions.clear();
        let without = PolicySet::from_policies([Policy::from_json(None, json).unwrap()]).unwrap();
        let (_, found) =
            breach(&mut solvers, &schema, &without).unwrap_or_else(|| panic!("not noticed: {without}"));
        is_real(&schema, &without, &found);
        lost += 1;
    }
    assert!(lost >= 15, "{lost} policies with a condition are too few");
}

#[test]
fn no_policy_ever_fails_to_evaluate() {
    let (mut solvers, schema) = (Solvers::start(), schema(SCHEMA));
    for text in [ALLOW, HIDE] {
        for policy in policies(text).policies() {
            for env in schema.request_envs() {
                let compiled = CompiledPolicy::compile(policy, &env, &schema).unwrap();
                assert!(solvers.never_fails(&compiled), "fails for {env:?}: {policy}");
            }
        }
    }
}
