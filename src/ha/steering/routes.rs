//! Routes to an overlay IP, in all route tables of those who use it.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::{Pointer, Sight};
use crate::aws::ec2::{RouteError, Target, Vpc};
use crate::aws::imds;
use crate::config;

/// Its control plane is in this very region.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct RoutePointer {
    vpc: Arc<Vpc>,
    address: IpAddr,
    tables: Vec<String>,
    network_interface: OnceCell<String>,
}

impl RoutePointer {
    pub(super) fn new(config: &config::Route) -> Self {
        Self {
            vpc: Arc::new(Vpc::new(TIMEOUT)),
            address: config.address,
            tables: config.route_tables.clone(),
            network_interface: OnceCell::new_with(config.network_interface.clone()),
        }
    }

    async fn network_interface(&self) -> Result<String, String> {
        let id = self.network_interface.get_or_try_init(imds::network_interface).await;
        id.cloned().map_err(|error| error.to_string())
    }

    /// Calls EC2 for all tables at once; each answer, or the first failure when all are done.
    async fn for_each_table<F, T>(
        &self,
        call: impl Fn(Arc<Vpc>, String) -> F,
    ) -> Result<Vec<T>, String>
    where
        F: Future<Output = Result<T, RouteError>> + Send + 'static,
        T: Send + 'static,
    {
        let calls = self.tables.iter().map(|table| call(self.vpc.clone(), table.clone()));
        let answers = calls.collect::<JoinSet<_>>().join_all().await;
        answers.into_iter().collect::<Result<_, _>>().map_err(|error: RouteError| error.to_string())
    }
}

impl Pointer for RoutePointer {
    async fn look(&mut self) -> Result<Sight, String> {
        let own = self.network_interface().await?;
        let address = self.address;
        let look = |vpc: Arc<Vpc>, table: String| async move {
            let target = vpc.route(&table, address).await?;
            Ok((table, target))
        };
        let mut targets = self.for_each_table(look).await?;
        targets.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let elsewhere = targets
            .iter()
            .filter(|(_, target)| !matches!(target, Target::NetworkInterface(id) if *id == own));
        let elsewhere: Vec<_> = elsewhere
            .map(|(table, target)| {
                let (Target::NetworkInterface(id) | Target::Other(id)) = target;
                format!("{id} in {table}")
            })
            .collect();
        let here = elsewhere.is_empty();
        Ok(Sight { here, target: if here { own } else { elsewhere.join(", ") } })
    }

    async fn move_here(&mut self) -> Result<String, String> {
        let own = self.network_interface().await?;
        let address = self.address;
        let replace = |vpc: Arc<Vpc>, table: String| {
            let own = own.clone();
            async move { vpc.replace_route(&table, address, &own).await }
        };
        self.for_each_table(replace).await?;
        Ok(own)
    }
}
