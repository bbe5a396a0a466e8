//! Hygiene campaigns on either database: who is asked, what is decided, and that what is due is done
//! once by however many nodes.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::DAY_MS;
use keywright_registry::outbox::MadeOf;
use keywright_registry::{
    Answer, Campaign, CampaignFilter, HygieneFinding, HygieneRules, LocalRegistry, NewCampaign,
    QuestionQuery, QuestionState, RegistryError, RetentionPolicy, Unanswered,
};

use super::Fixture;

fn unused() -> CampaignFilter {
    CampaignFilter {
        findings: vec![HygieneFinding::NeverUsed, HygieneFinding::Idle],
        rules: HygieneRules {
            idle_days: 1,
            ..HygieneRules::default()
        },
        environment: None,
    }
}

async fn begin(fixture: &Fixture, unanswered: Unanswered) -> Result<Campaign> {
    let new = NewCampaign {
        name: "Autumn cleaning".into(),
        filter: unused(),
        due_at: fixture.now() + 10 * DAY_MS,
        unanswered,
    };
    let registry = &fixture.registry;
    let candidates = registry.campaign_candidates(&new.filter).await?;
    Ok(registry
        .begin_campaign(&fixture.actor, &new, candidates)
        .await?)
}

async fn count(fixture: &Fixture, action: &str) -> Result<usize> {
    let actions = fixture.actions().await?;
    Ok(actions.iter().filter(|one| *one == action).count())
}

async fn state(registry: &LocalRegistry, campaign: &Campaign, key: &str) -> Result<QuestionState> {
    Ok(registry.find_question(&campaign.id, key).await?.state)
}

#[tokio::test]
async fn nodes_that_settle_at_the_same_moment_do_so_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut ids = Vec::new();
    // More than one transaction settles.
    for _ in 0..60 {
        ids.push(fixture.issue("Unused").await?.key.id);
    }
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    let (_, progress) = fixture.registry.find_campaign(&campaign.id).await?;
    ensure!(progress.asked == 60, "{progress:?}");
    let retire = Answer::Retire {
        revoke: true,
        at_once: false,
        reason: String::new(),
    };
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    let retired = ids.first().context("a key")?;
    registry
        .answer_question(actor, &campaign.id, retired, &retire)
        .await?;
    let other = fixture.second().await?;
    ensure!(registry.settle_campaigns(actor).await? == 0, "too early");
    fixture.set_clock(campaign.due_at);
    let (one, two) = tokio::join!(
        registry.settle_campaigns(actor),
        other.settle_campaigns(actor)
    );
    one?;
    two?;
    let (closed, progress) = registry.find_campaign(&campaign.id).await?;
    ensure!(closed.state() == "closed" && closed.last_change > 0);
    ensure!(progress.by_state["disabled"] == 59 && progress.by_state["retired"] == 1);
    ensure!(count(&fixture, "api_key.disabled").await? == 59);
    ensure!(count(&fixture, "api_key.revoked").await? == 1);
    ensure!(count(&fixture, "hygiene.campaign_closed").await? == 1);
    // What is enabled since stays so.
    let enabled = ids.last().context("a key")?;
    registry.enable_api_key(actor, enabled).await?;
    fixture.set_clock(fixture.now() + DAY_MS);
    ensure!(other.settle_campaigns(actor).await? == 0);
    let (key, _) = registry.find_api_key(enabled).await?;
    ensure!(key.disabled_at.is_none());
    Ok(())
}

#[tokio::test]
async fn owners_are_told_once_and_pages_are_whole() -> Result<()> {
    let fixture = super::fixture().await?;
    for _ in 0..7 {
        fixture.issue("Unused").await?;
    }
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Leave).await?;
    let registry = &fixture.registry;
    let untold = registry.untold_questions(500).await?;
    ensure!(untold.len() == 1 && untold[0].keys.len() == 7, "{untold:?}");
    let told = MadeOf::Questions {
        campaign_id: campaign.id.clone(),
        key_ids: untold[0].keys.iter().map(|(id, _)| id.clone()).collect(),
    };
    ensure!(registry.enqueue(told.clone(), Vec::new()).await?);
    let again = registry.enqueue(told, Vec::new()).await;
    ensure!(matches!(again, Err(RegistryError::Changed)), "{again:?}");
    ensure!(registry.untold_questions(500).await?.is_empty());
    for campaign_id in [Some(campaign.id.clone()), None] {
        let mut query = QuestionQuery {
            campaign_id,
            limit: 3,
            ..QuestionQuery::default()
        };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = registry.list_questions(&query).await?;
            seen.extend(page.items.into_iter().map(|one| one.key_id));
            pages += 1;
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        ensure!((seen.len(), once.len(), pages) == (7, 7, 3), "{seen:?}");
    }
    let owned = QuestionQuery {
        owner_id: Some("nobody".into()),
        limit: 10,
        ..QuestionQuery::default()
    };
    ensure!(registry.list_questions(&owned).await?.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_use_clears_a_key_and_what_is_over_is_forgotten_with_it() -> Result<()> {
    let fixture = super::fixture().await?;
    let (used, silent) = (fixture.issue("Used").await?, fixture.issue("Silent").await?);
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    fixture.set_clock(campaign.due_at - 1);
    ensure!(fixture.code(&used).await? == "valid");
    fixture.set_clock(campaign.due_at);
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    ensure!(registry.settle_campaigns(actor).await? == 1);
    ensure!(state(registry, &campaign, &used.key.id).await? == QuestionState::Cleared);
    ensure!(state(registry, &campaign, &silent.key.id).await? == QuestionState::Disabled);
    ensure!(fixture.code(&used).await? == "valid");
    ensure!(fixture.code(&silent).await? == "disabled");
    // A key that is purged takes its questions with it.
    registry.revoke_api_key(actor, &silent.key.id, "").await?;
    fixture.set_clock(fixture.now() + 40 * DAY_MS);
    let policy = RetentionPolicy {
        ended_keys_days: Some(30),
        ..RetentionPolicy::default()
    };
    registry
        .run_retention(actor, &policy, None, &[], &|_| {})
        .await?;
    let gone = registry.find_question(&campaign.id, &silent.key.id).await;
    ensure!(
        matches!(gone, Err(RegistryError::QuestionNotFound)),
        "{gone:?}"
    );
    // And a campaign is forgotten when none of its answers can hold any more.
    fixture.set_clock(fixture.now() + 401 * DAY_MS);
    begin(&fixture, Unanswered::Leave).await?;
    let gone = registry.find_campaign(&campaign.id).await;
    ensure!(matches!(gone, Err(RegistryError::CampaignNotFound)));
    Ok(())
}
