//! Who may run programs as which services. Pure: told who asks, it says yes or no.

use selvedge_model::ServiceName;

use crate::document::{RunPermission, RunRule, Subject};

/// A user of this host, as its user database knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub uid: u32,
    /// Its name, where the database has one.
    pub user: Option<String>,
    /// All its groups: number, and name where the database has one.
    pub groups: Vec<(u32, Option<String>)>,
}

/// What somebody may do about running programs as a service, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    /// Nothing.
    Refused,
    /// Run, within the limits of the caller's own cgroup.
    Granted,
    /// Run, and leave these limits behind.
    GrantedShedding,
}

impl RunPermission {
    /// What `who` may do as `service`; the most that any rule allows.
    pub fn leave(&self, who: &Identity, service: &ServiceName) -> Leave {
        if who.uid == 0 {
            return Leave::GrantedShedding;
        }
        let mut leave = Leave::Refused;
        for rule in self.rules.iter().filter(|rule| rule.allows(who, service)) {
            let granted = match rule.shed_limits {
                true => Leave::GrantedShedding,
                false => Leave::Granted,
            };
            leave = leave.max(granted);
        }
        leave
    }
}

impl RunRule {
    fn allows(&self, who: &Identity, service: &ServiceName) -> bool {
        let is_who = self.subjects.iter().any(|subject| subject.is(who));
        is_who
            && self.services.iter().any(|scope| {
                let named = scope.name.as_ref();
                scope.namespace == service.namespace
                    && named.is_none_or(|name| *name == service.name)
            })
    }
}

impl Subject {
    fn is(&self, who: &Identity) -> bool {
        match self {
            Self::Uid(uid) => who.uid == *uid,
            Self::User(name) => who.user.as_ref() == Some(name),
            Self::Gid(gid) => who.groups.iter().any(|(number, _)| number == gid),
            Self::Group(name) => who
                .groups
                .iter()
                .any(|(_, group)| group.as_ref() == Some(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{SourceFile, Spec, parse};

    #[test]
    fn rules_name_users_groups_and_services() {
        let text = "
apiVersion: selvedge.dev/v1alpha1
kind: RunPermission
metadata: {name: default}
spec:
  rules:
  - {subjects: [{user: ann}, {gid: 50}], services: [{name: cart}]}
  - {subjects: [{group: dev}], services: [{namespace: shop, name: '*'}], shedLimits: true}
";
        let file = SourceFile {
            name: "f".to_owned(),
            text: text.to_owned(),
        };
        let parsed = parse(&[file]).unwrap();
        let Spec::RunPermission(permission) = &parsed.documents[0].spec else {
            panic!("{parsed:?}")
        };
        let who = |uid, user: &str, groups: &[(u32, &str)]| Identity {
            uid,
            user: Some(user.to_owned()),
            groups: groups
                .iter()
                .map(|(gid, name)| (*gid, Some((*name).to_owned())))
                .collect(),
        };
        for (who, service, want) in [
            (who(0, "root", &[]), "x.y", Leave::GrantedShedding),
            (who(7, "ann", &[]), "cart", Leave::Granted),
            (who(7, "ann", &[]), "cart.shop", Leave::Refused),
            (who(8, "bob", &[(50, "staff")]), "cart", Leave::Granted),
            (
                who(8, "bob", &[(51, "dev")]),
                "any.shop",
                Leave::GrantedShedding,
            ),
            (who(8, "bob", &[(51, "dev")]), "cart", Leave::Refused),
            (who(9, "eve", &[]), "cart", Leave::Refused),
        ] {
            assert_eq!(
                permission.leave(&who, &service.parse().unwrap()),
                want,
                "{who:?} {service}"
            );
        }
        let nobody = RunPermission::default();
        assert_eq!(
            nobody.leave(&who(7, "ann", &[]), &"cart".parse().unwrap()),
            Leave::Refused
        );
    }
}
