//! The policies as people wrote them, in `policy/*.cedar`: compiled in, and parsed and validated against
//! their schema once. Knows how a principal and a resource look to Cedar, and nothing of what is allowed.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind},
};

use super::Resource;
use crate::{Job, Principal};

/// A file of policies.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    name: &'static str,
    text: &'static str,
    effect: Effect,
}

const SCHEMA: &str = include_str!("../../policy/gangline.cedarschema");
const ALLOW: File =
    File { name: "allow.cedar", text: include_str!("../../policy/allow.cedar"), effect: Effect::Permit };
const HIDE: File =
    File { name: "hide.cedar", text: include_str!("../../policy/hide.cedar"), effect: Effect::Forbid };

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the policies cannot be used. A server that meets this must not start.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The schema is not one.
    #[error("reading the schema of the policies")]
    Schema(#[source] Cause),
    /// A name that the code uses is not a name to Cedar.
    #[error("reading a name of the schema")]
    Name(#[source] Cause),
    /// The schema's actions are not the program's.
    #[error("the schema of the policies and the program do not have the same actions: {0}")]
    Actions(String),
    /// A file that does not parse.
    #[error("reading the policies in {file}")]
    Syntax {
        /// Which.
        file: &'static str,
        /// As Cedar says it.
        #[source]
        source: Cause,
    },
    /// A policy without a name or a reason, or that is not of its file.
    #[error("a policy in {file} {problem}: {policy}")]
    Policy {
        /// Where.
        file: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// Its name if it has one, otherwise its text.
        policy: String,
    },
    /// Policies that speak of what the schema does not have.
    #[error("the policies in {file} do not fit their schema: {findings}")]
    Invalid {
        /// Which.
        file: &'static str,
        /// What does not fit, separated by semicolons.
        findings: String,
    },
}

/// What the policies say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'p> {
    /// Allowed, for this reason.
    Allowed(&'p str),
    /// Refused, and it must not be told that there is such a thing.
    Hidden,
    /// Refused.
    Refused,
}

/// The policies, ready to be asked.
#[derive(Debug)]
pub(super) struct Policies {
    schema: Schema,
    authorizer: Authorizer,
    names: Names,
    /// One a file, by action: a policy about another action cannot match, so it is not asked.
    allow: Vec<PolicySet>,
    hide: Vec<PolicySet>,
    reasons: BTreeMap<PolicyId, String>,
    /// As [`Action::ALL`].
    actions: Vec<EntityUid>,
}

impl Policies {
    /// Those compiled in.
    pub(super) fn compiled_in() -> Result<Self, PolicyError> {
        Self::read(SCHEMA, ALLOW, HIDE)
    }

    fn read(schema: &str, allow: File, hide: File) -> Result<Self, PolicyError> {
        let (schema, _) = Schema::from_cedarschema_str(schema).map_err(|e| PolicyError::Schema(e.into()))?;
        let names = Names::new()?;
        let actions: Vec<EntityUid> =
            Action::ALL.iter().map(|action| uid(&names.action, action.as_str())).collect();
        let known: HashSet<&EntityUid> = schema.actions().collect();
        if let Some(lacking) = actions.iter().find(|action| !known.contains(action)) {
            return Err(PolicyError::Actions(format!("the schema lacks {lacking}")));
        }
        if let Some(foreign) = known.into_iter().find(|action| !actions.contains(action)) {
            return Err(PolicyError::Actions(format!("the program lacks {foreign}")));
        }
        let mut reasons = BTreeMap::new();
        let allow = by_action(&policies(allow, &schema, &mut reasons)?, &actions);
        let hide = by_action(&policies(hide, &schema, &mut reasons)?, &actions);
        Ok(Self { schema, authorizer: Authorizer::new(), names, allow, hide, reasons, actions })
    }

    /// Asks. Whatever cannot be put into a request that fits the schema is refused.
    pub(super) fn ask(&self, who: &Principal, action: Action, what: &Resource) -> Answer<'_> {
        let Some((request, entities)) = self.request(who, action, what) else { return Answer::Refused };
        let asked =
            |set: &[PolicySet]| self.authorizer.is_authorized(&request, &set[action as usize], &entities);
        let response = asked(&self.allow);
        if response.decision() == Decision::Allow {
            // One policy at most: `tests/symbolic` proves that no two allow the same.
            let reason = response.diagnostics().reason().min().and_then(|id| self.reasons.get(id));
            return reason.map_or(Answer::Refused, |reason| Answer::Allowed(reason));
        }
        match asked(&self.hide).diagnostics().reason().next() {
            Some(_) => Answer::Hidden,
            None => Answer::Refused,
        }
    }

    /// The question as Cedar takes it; `None` if the schema has no such question.
    fn request(&self, who: &Principal, action: Action, what: &Resource) -> Option<(Request, Entities)> {
        let principal = self.names.principal(who)?;
        let resource = self.names.resource(what)?;
        let request = Request::new(
            principal.uid(),
            self.actions[action as usize].clone(),
            resource.uid(),
            Context::empty(),
            Some(&self.schema),
        );
        Some((request.ok()?, Entities::from_entities([principal, resource], None).ok()?))
    }
}

/// Reads, names and validates a file of policies.
fn policies(
    file: File,
    schema: &Schema,
    reasons: &mut BTreeMap<PolicyId, String>,
) -> Result<PolicySet, PolicyError> {
    let syntax = |source: Cause| PolicyError::Syntax { file: file.name, source };
    let read: PolicySet = file.text.parse().map_err(|e: cedar_policy::ParseErrors| syntax(e.into()))?;
    let wrong = |problem, policy| PolicyError::Policy { file: file.name, problem, policy };
    if let Some(template) = read.templates().next() {
        return Err(wrong("is a template, and nothing fills it in", template.to_string()));
    }
    let mut named = PolicySet::new();
    for policy in read.policies() {
        let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()) else {
            return Err(wrong("has no @id", policy.to_string()));
        };
        let Some(reason) = policy.annotation("reason").filter(|reason| !reason.is_empty()) else {
            return Err(wrong("has no @reason", id.to_owned()));
        };
        if policy.effect() != file.effect {
            return Err(wrong("has the effect of the other file", id.to_owned()));
        }
        let name = PolicyId::new(id);
        if reasons.insert(name.clone(), reason.to_owned()).is_some() {
            return Err(wrong("has the @id of another", id.to_owned()));
        }
        named.add(policy.new_id(name)).map_err(|e| syntax(e.into()))?;
    }
    let result = Validator::new(schema.clone()).validate(&named, ValidationMode::Strict);
    let errors = result.validation_errors().map(ToString::to_string);
    // Warnings too: a policy that can never match is a mistake.
    let findings: Vec<String> = errors.chain(result.validation_warnings().map(ToString::to_string)).collect();
    if !findings.is_empty() {
        return Err(PolicyError::Invalid { file: file.name, findings: findings.join("; ") });
    }
    Ok(named)
}

/// The policies of `all` that may match each of `actions`. The schema has no groups of actions, so a policy
/// that names actions matches these only.
fn by_action(all: &PolicySet, actions: &[EntityUid]) -> Vec<PolicySet> {
    let about = |action: &EntityUid| {
        let of_action = all.policies().filter(|policy| match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::In(named) => named.contains(action),
            ActionConstraint::Eq(named) => named == *action,
        });
        PolicySet::from_policies(of_action.cloned()).expect("ids are as distinct as in the whole set")
    };
    actions.iter().map(about).collect()
}

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// An entity with the entities it refers to.
fn entity<const N: usize>(uid: EntityUid, refers_to: [(&str, EntityUid); N]) -> Option<Entity> {
    let refers_to: HashMap<String, RestrictedExpression> = refers_to
        .into_iter()
        .map(|(name, to)| (name.to_owned(), RestrictedExpression::new_entity_uid(to)))
        .collect();
    Entity::new(uid, refers_to, HashSet::new()).ok()
}

macro_rules! names {
    ($($name:ident = $text:literal,)+) => {
        /// The schema's kinds of entities, and those entities of which there are a handful.
        #[derive(Debug)]
        struct Names { $($name: EntityTypeName,)+ roles: [EntityUid; 3], jobs: [EntityUid; 6] }
        impl Names {
            fn new() -> Result<Self, PolicyError> {
                let name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| PolicyError::Name(e.into()));
                let (role, job) = (name("Who::Role")?, name("Who::Job")?);
                Ok(Self {
                    $($name: name($text)?,)+
                    roles: Role::ALL.map(|one| uid(&role, one.as_str())),
                    jobs: Job::ALL.map(|one| uid(&job, one.as_str())),
                })
            }
        }
    };
}
names! {
    action = "Action",
    nobody = "Who::Nobody",
    new_key = "Who::NewKey",
    account = "Who::Account",
    machine = "Who::Machine",
    command_line = "Who::CommandLine",
    person = "Who::Person",
    vouched = "Who::Vouched",
    on_network = "On::Network",
    on_account = "On::Account",
    on_machine = "On::Machine",
    on_gpu = "On::Gpu",
    on_cluster = "On::Cluster",
    key_kind = "On::KeyKind",
    on_enrolment = "On::Enrolment",
    on_key = "On::Key",
    key = "Who::Key",
    on_identity = "On::Identity",
    on_invitation = "On::Invitation",
    on_halt = "On::Halt",
    on_freeze = "On::Freeze",
    on_restoration = "On::Restoration",
    on_calibration = "On::Calibration",
    approver = "On::Approver",
    on_approval = "On::Approval",
}

impl Names {
    fn principal(&self, who: &Principal) -> Option<Entity> {
        let person = |kind, account: &gangline_types::AccountId, role: Role| {
            let account = account.to_string();
            let role = self.roles[role as usize].clone();
            entity(uid(kind, &account), [("account", uid(&self.account, &account)), ("role", role)])
        };
        match who {
            Principal::Nobody => entity(uid(&self.nobody, "nobody"), []),
            Principal::NewKey(key) => entity(uid(&self.new_key, key.to_string()), []),
            Principal::Machine { machine, account, key } => entity(
                uid(&self.machine, machine.to_string()),
                [
                    ("account", uid(&self.account, account.to_string())),
                    ("key", uid(&self.key, key.to_string())),
                ],
            ),
            Principal::CommandLine { account, role, key } => {
                let account = account.to_string();
                entity(
                    uid(&self.command_line, &account),
                    [
                        ("account", uid(&self.account, &account)),
                        ("role", self.roles[*role as usize].clone()),
                        ("key", uid(&self.key, key.to_string())),
                    ],
                )
            }
            Principal::Person { account, role, session: _ } => person(&self.person, account, *role),
            Principal::Vouched(identity) => entity(uid(&self.vouched, identity.to_string()), []),
            Principal::Job(job) => entity(self.jobs[*job as usize].clone(), []),
        }
    }

    fn resource(&self, what: &Resource) -> Option<Entity> {
        let account = |id: &gangline_types::AccountId| uid(&self.account, id.to_string());
        let machine = |id: &gangline_types::MachineId| uid(&self.machine, id.to_string());
        match what {
            Resource::Network(_) => entity(uid(&self.on_network, "network"), []),
            Resource::Account(on) => {
                entity(uid(&self.on_account, on.account.to_string()), [("account", account(&on.account))])
            }
            Resource::Machine(on) => entity(
                uid(&self.on_machine, on.machine.to_string()),
                [("machine", machine(&on.machine)), ("account", account(&on.account))],
            ),
            Resource::Gpu(on) => entity(
                uid(&self.on_gpu, on.gpu.to_string()),
                [("machine", machine(&on.machine)), ("account", account(&on.account))],
            ),
            Resource::Cluster(on) => entity(
                uid(&self.on_cluster, on.cluster.to_string()),
                [("renter", account(&on.renter)), ("machine", machine(&on.machine))],
            ),
            Resource::Enrolment(on) => {
                let kind = match on.kind {
                    KeyKind::Machine => "machine",
                    KeyKind::CommandLine => "command_line",
                };
                entity(
                    uid(&self.on_enrolment, on.enrolment.to_string()),
                    [("kind", uid(&self.key_kind, kind))],
                )
            }
            Resource::Key(on) => {
                let key = on.key.to_string();
                entity(
                    uid(&self.on_key, &key),
                    [("key", uid(&self.key, &key)), ("account", account(&on.account))],
                )
            }
            Resource::Identity(on) => {
                let named = on.identity.to_string();
                entity(uid(&self.on_identity, &named), [("vouched", uid(&self.vouched, &named))])
            }
            Resource::Invitation(_) => entity(uid(&self.on_invitation, what.to_string()), []),
            Resource::Halt(_) => entity(uid(&self.on_halt, what.to_string()), []),
            Resource::Freeze(on) => entity(uid(&self.on_freeze, on.freeze.to_string()), []),
            Resource::Restoration(_) => entity(uid(&self.on_restoration, what.to_string()), []),
            Resource::Calibration(on) => entity(uid(&self.on_calibration, on.version.to_string()), []),
            Resource::Approval(on) => entity(
                uid(&self.on_approval, on.approval.to_string()),
                [
                    ("asked_by", account(&on.asked_by)),
                    ("approver", uid(&self.approver, on.approver.as_str())),
                ],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::matrix;

    #[test]
    fn the_policies_compiled_in_are_sound() {
        Policies::compiled_in().unwrap();
    }

    fn check(allow: &'static str, expected: &str) {
        let allow = File { text: allow, ..ALLOW };
        let error = Policies::read(SCHEMA, allow, HIDE).unwrap_err();
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        assert!(told.contains(expected), "{allow:?} was refused with {told}");
    }

    #[test]
    fn a_policy_that_does_not_fit_is_not_used() {
        check("permit (principal, action, resource", "unexpected end of input");
        check("permit (principal, action, resource);", "has no @id");
        check("@id(\"a\") permit (principal, action, resource);", "has no @reason: a");
        check("@id(\"a\") @reason(\"\") permit (principal, action, resource);", "has no @reason: a");
        check(
            "@id(\"a\") @reason(\"b\") forbid (principal, action, resource);",
            "has the effect of the other file: a",
        );
        check(
            "@id(\"accounts-apart\") @reason(\"b\") permit (principal, action, resource);\n",
            "has the @id of another",
        );
        check("@id(\"a\") @reason(\"b\") permit (principal == ?principal, action, resource);", "a template");
        check(
            "@id(\"a\") @reason(\"b\") permit (principal, action == Action::\"rename_gpu\", resource);",
            "rename_gpu",
        );
        check(
            "@id(\"a\") @reason(\"b\") permit (principal is Who::Machine, action, resource is On::Gpu) \
             when { resource.owner == principal };",
            "owner",
        );
        // An attribute that only some resources have.
        check(
            "@id(\"a\") @reason(\"b\") permit (principal is Who::Machine, action, resource) \
             when { resource.machine == principal };",
            "machine",
        );
        // A role that there is not, and a request that there is not: it could never match.
        check(
            "@id(\"a\") @reason(\"b\") permit (principal is Who::Person, action == Action::\"invite\", resource) \
             when { principal.role == Who::Role::\"admin\" };",
            "admin",
        );
        check(
            "@id(\"a\") @reason(\"b\") permit (principal, action == Action::\"beat\", resource is On::Gpu);",
            "a",
        );
    }

    #[test]
    fn schema_and_program_have_the_same_actions() {
        let told = |schema: &str| Policies::read(schema, ALLOW, HIDE).unwrap_err().to_string();
        assert!(told(&SCHEMA.replace("judge, ", "")).contains("the schema lacks Action::\"judge\""));
        assert!(
            told(&SCHEMA.replace("judge, ", "judge, own, ")).contains("the program lacks Action::\"own\"")
        );
    }

    /// What is proved of the policies is proved of entities as the schema has them, so those that we build
    /// must be such.
    #[test]
    fn entities_are_as_the_schema_has_them() {
        let policies = Policies::compiled_in().unwrap();
        for (_, who) in matrix::actors() {
            for (_, what) in matrix::resources() {
                let both = [policies.names.principal(&who).unwrap(), policies.names.resource(&what).unwrap()];
                Entities::from_entities(both, Some(&policies.schema)).unwrap();
            }
        }
    }

    /// Every action has a kind of resource about which it can be asked.
    #[test]
    fn every_action_can_be_asked_about_something() {
        let policies = Policies::compiled_in().unwrap();
        for action in Action::ALL {
            let fits = matrix::resources()
                .iter()
                .any(|(_, what)| policies.request(&Principal::Nobody, *action, what).is_some());
            assert!(fits, "{action}");
        }
    }

    /// That a policy about another action is not asked changes nothing.
    #[test]
    fn asking_all_policies_says_the_same() {
        let policies = Policies::compiled_in().unwrap();
        let mut asked = 0;
        for (file, sets) in [(ALLOW, &policies.allow), (HIDE, &policies.hide)] {
            let all = super::policies(file, &policies.schema, &mut BTreeMap::new()).unwrap();
            for (_, who) in matrix::actors() {
                for action in Action::ALL {
                    for (_, what) in matrix::resources() {
                        let Some((request, entities)) = policies.request(&who, *action, &what) else {
                            continue;
                        };
                        let ask = |set| {
                            let response = policies.authorizer.is_authorized(&request, set, &entities);
                            assert_eq!(response.diagnostics().errors().count(), 0);
                            let mut matched: Vec<PolicyId> =
                                response.diagnostics().reason().cloned().collect();
                            matched.sort();
                            (response.decision(), matched)
                        };
                        assert_eq!(ask(&sets[*action as usize]), ask(&all));
                        asked += 1;
                    }
                }
            }
        }
        assert!(asked > 500, "{asked}");
    }
}
