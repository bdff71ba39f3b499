//! What every act that one person does at once has in common.

use std::future::Future;

use common::terms::ActId;
use serde_json::{Value, json};
use tonic::Status;

use crate::{
    answer::{self, Sent},
    arguments::ActArguments,
    connection::{Admin, Side},
    context::Context,
    failure::Result,
    report::Report,
};

/// An act, about to be done.
pub(super) struct Closing<'a> {
    /// In words, such as `suspend all kinds on the registry side`.
    pub(super) what: String,
    pub(super) side: Side,
    pub(super) act_id: ActId,
    /// Full name of the method.
    pub(super) method: &'static str,
    /// The message, as it would be sent.
    pub(super) message: Value,
    /// From the message's fields to the flags that they came from.
    pub(super) flags: &'a [(&'a str, &'a str)],
    /// Where another operator confirms it, when not here: the end of a sentence.
    pub(super) confirmed_at: &'static str,
}

impl Closing<'_> {
    /// Does the act: tells what it is, asks, shows its id, and sends it. `admin` is seen to be there before, where there
    /// is a call that only reads.
    pub(super) async fn run(
        self,
        context: &Context,
        arguments: &ActArguments,
        server: &str,
        admin: Option<&Admin>,
        send: impl Future<Output = std::result::Result<u64, Status>>,
    ) -> Result<Report> {
        let Self {
            what,
            side,
            act_id,
            method,
            message,
            flags,
            confirmed_at,
        } = self;
        let act_id = act_id.to_string();
        if arguments.dry_run {
            let text = format!(
                "dry run: nothing was sent. It would {what}.\n{method} would go to {server} with\n{message:#}"
            );
            let json = json!({"dry_run": true, "server": server, "method": method, "message": message});
            return Ok(Report::done(json, text));
        }
        context
            .terminal
            .confirm(&format!("this will {what}, at once, on {server}"), arguments.yes)?;
        if let Some(admin) = admin {
            admin.reach().await?;
        }
        context.terminal.tell(&format!("act id: {act_id}"));
        let sent = Sent {
            server,
            repeat: context.command_line.with(&[("--act-id", Some(&act_id))], &[]),
            flags,
        };
        let epoch = send.await.map_err(|status| answer::of_act(&status, sent))?;
        let confirm = format!("kosekictl confirm {act_id} --side {}", side.name());
        let text = format!(
            "done and in force: {what}\nact id: {act_id}\nepoch: {epoch}\nnext: another operator confirms \
             it{confirmed_at}: {confirm}"
        );
        let json = json!({
            "act_id": act_id,
            "epoch": epoch,
            "in_force": true,
            "server": server,
            "confirm": confirm,
        });
        Ok(Report::done(json, text))
    }
}
