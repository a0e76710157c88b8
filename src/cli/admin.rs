//! `ftpgate drain`, `resume`, `failover`, `reload` and `upgrade`: one order to the node's admin socket.

use std::process::ExitCode;

use hyper::Method;

use super::node::{NodeArguments, Trouble, finish, run};
use super::output::print;

/// What `ftpgate drain` takes besides.
#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Even if the peer cannot serve: clients will find nobody.
    #[arg(long)]
    force: bool,
}

/// Lets the peer take over, then refuses new clients.
pub(super) fn drain(arguments: &DrainArguments) -> ExitCode {
    order(&arguments.node, if arguments.force { "/drain/force" } else { "/drain" })
}

/// Takes clients again.
pub(super) fn resume(arguments: &NodeArguments) -> ExitCode {
    order(arguments, "/resume")
}

/// Lets the peer take over.
pub(super) fn fail_over(arguments: &NodeArguments) -> ExitCode {
    order(arguments, "/failover")
}

/// Takes up a changed configuration.
pub(super) fn reload(arguments: &NodeArguments) -> ExitCode {
    order(arguments, "/reload")
}

/// Has the program at the node's path take over from the node.
pub(super) fn upgrade(arguments: &NodeArguments) -> ExitCode {
    order(arguments, "/upgrade")
}

/// Prints what the node says.
fn order(arguments: &NodeArguments, path: &str) -> ExitCode {
    finish(run(async {
        let node = arguments.node()?;
        let answer = node.ask(Method::POST, path).await?;
        let done = answer.get("done").and_then(|done| done.as_str());
        print(&format!("{}\n", done.ok_or_else(|| node.stranger())?));
        Ok::<_, Trouble>(ExitCode::SUCCESS)
    }))
}
