//! Hygiene campaigns on either database: who is asked, what is decided, and that what is due is done
//! once by however many nodes.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::people::Sealed;
use keywright_domain::scopes::ScopeSet;
use keywright_registry::outbox::{Attempt, Channel, MadeOf, NewMessage, NewWebhook, Outcome};
use keywright_registry::{
    Answer, BoardKind, BoardQuery, BoardReader, Campaign, CampaignFilter, HygieneFinding,
    HygieneRules, LocalRegistry, NewCampaign, QuestionQuery, QuestionState, RegistryError,
    RetentionPolicy, Told, Unanswered, asked_event,
};

use keywright_server::settings::Settings;
use keywright_server::{Server, ServerSecrets};
use sqlx::AnyConnection;

use super::{Fixture, Kind};

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

/// Tells owners what they are asked, or finds that nobody can be told.
async fn tell(fixture: &Fixture, can_be_told: bool) -> Result<()> {
    let registry = &fixture.registry;
    for asked in registry.untold_questions(500).await? {
        let message = NewMessage {
            event_id: format!("{} {}", asked.campaign.id, fixture.now()),
            event_type: "hygiene.asked".into(),
            channel: Channel::Mail,
            target: "owner@example.org".into(),
            body: b"{}".to_vec(),
        };
        let messages = can_be_told.then_some(message).into_iter().collect();
        let of = MadeOf::Questions {
            campaign_id: asked.campaign.id,
            key_ids: asked.keys.into_iter().map(|(id, _)| id).collect(),
        };
        ensure!(registry.enqueue(of, messages).await?);
    }
    Ok(())
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
    tell(&fixture, true).await?;
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
async fn the_board_asks_until_the_last_question_is_answered() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(fixture.issue("Unused").await?.key.id);
    }
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    tell(&fixture, true).await?;
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    let me = BoardReader::of_this_device();
    let query = BoardQuery {
        unread_only: true,
        limit: 10,
        ..BoardQuery::default()
    };
    for (at, id) in ids.iter().enumerate() {
        let up = registry.list_board(&me, &query).await?.items;
        let kinds: Vec<_> = up.iter().map(|one| (one.kind, one.count)).collect();
        ensure!(kinds == [(BoardKind::HygieneAsked, 2)], "{at}: {kinds:?}");
        // The key that the notice names goes first.
        let retire = Answer::Retire {
            revoke: true,
            at_once: true,
            reason: String::new(),
        };
        registry
            .answer_question(actor, &campaign.id, id, &retire)
            .await?;
    }
    ensure!(registry.list_board(&me, &query).await?.items.is_empty());
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
    tell(&fixture, true).await?;
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

#[tokio::test]
async fn nobodys_key_is_suspended_before_they_had_a_days_notice() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut keys = Vec::new();
    // Those that wait do not hide those behind them.
    for _ in 0..60 {
        keys.push(fixture.issue("Unused").await?);
    }
    keys.sort_by(|one, two| one.key.id.cmp(&two.key.id));
    let (silent, kept) = (&keys[0], &keys[59]);
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    let keep = Answer::Keep {
        until: campaign.due_at + 60 * DAY_MS,
        reason: "the yearly close".into(),
    };
    let (id, kept_id) = (&campaign.id, &kept.key.id);
    registry.answer_question(actor, id, kept_id, &keep).await?;
    // The server slept from the beginning to the due date, and woke.
    fixture.set_clock(campaign.due_at + DAY_MS);
    ensure!(registry.settle_campaigns(actor).await? == 0);
    ensure!(state(registry, &campaign, &silent.key.id).await? == QuestionState::Open);
    // Looked at, and not verified: a use would clear it.
    let (key, _) = registry.find_api_key(&silent.key.id).await?;
    ensure!(key.disabled_at.is_none());
    // What was decided is done, and can be decided no more: nobody would do it.
    let settled = registry.find_question(id, kept_id).await?;
    ensure!(settled.settled_at.is_some() && settled.told == Told::NotYet);
    let retire = Answer::Retire {
        revoke: true,
        at_once: false,
        reason: String::new(),
    };
    let late = registry.answer_question(actor, id, kept_id, &retire).await;
    ensure!(
        matches!(late, Err(RegistryError::QuestionSettled)),
        "{late:?}"
    );
    ensure!(state(registry, &campaign, kept_id).await? == QuestionState::Keep);
    // They are told now, and have their day.
    let waits = registry.find_question(id, &silent.key.id).await?;
    ensure!((waits.told, waits.answers_until) == (Told::NotYet, campaign.due_at));
    tell(&fixture, true).await?;
    let told_at = fixture.now();
    ensure!(campaign.answers_until(told_at) == told_at + DAY_MS);
    let waits = registry.find_question(id, &silent.key.id).await?;
    ensure!((waits.due_at, waits.answers_until) == (campaign.due_at, told_at + DAY_MS));
    let mut stranger = fixture.stranger().await?;
    let before = written(&fixture, &mut stranger).await?;
    for at in [told_at, told_at + DAY_MS - 1] {
        fixture.set_clock(at);
        ensure!(registry.settle_campaigns(actor).await? == 0);
    }
    // All wait, and nothing is written of that.
    ensure!(written(&fixture, &mut stranger).await? == before);
    ensure!(state(registry, &campaign, &silent.key.id).await? == QuestionState::Open);
    // In that day they can answer.
    let answered = &keys[1].key.id;
    registry
        .answer_question(actor, id, answered, &retire)
        .await?;
    fixture.set_clock(told_at + DAY_MS);
    ensure!(registry.settle_campaigns(actor).await? == 1);
    let (closed, progress) = registry.find_campaign(id).await?;
    ensure!(closed.state() == "closed");
    ensure!(progress.by_state["disabled"] == 58, "{progress:?}");
    ensure!(progress.by_state["retired"] == 1 && progress.by_state["keep"] == 1);
    ensure!(fixture.code(silent).await? == "disabled");
    Ok(())
}

/// Another number after somebody wrote: anything in SQLite, a campaign in PostgreSQL.
async fn written(fixture: &Fixture, stranger: &mut AnyConnection) -> Result<i64> {
    let sql = match fixture.kind {
        Kind::Sqlite => "PRAGMA data_version",
        Kind::Postgres => "SELECT MAX(CAST(CAST(xmin AS TEXT) AS BIGINT)) FROM hygiene_campaigns",
    };
    Ok(sqlx::query_scalar(sql).fetch_one(stranger).await?)
}

#[tokio::test]
async fn a_campaign_that_is_called_off_leaves_nobody_to_be_told() -> Result<()> {
    let fixture = super::fixture().await?;
    for _ in 0..3 {
        fixture.issue("Unused").await?;
    }
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    // One of them knows already.
    let untold = registry.untold_questions(500).await?;
    let (told, late) = (&untold[0].keys[0].0, &untold[0].keys[1].0);
    let of = MadeOf::Questions {
        campaign_id: campaign.id.clone(),
        key_ids: vec![told.clone()],
    };
    let message = NewMessage {
        event_id: "one".into(),
        event_type: "hygiene.asked".into(),
        channel: Channel::Mail,
        target: "owner@example.org".into(),
        body: b"{}".to_vec(),
    };
    ensure!(registry.enqueue(of, vec![message]).await?);
    registry.cancel_campaign(actor, &campaign.id).await?;
    // None is looked through for as long as campaigns are kept.
    let mut stranger = fixture.stranger().await?;
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM hygiene_questions WHERE told_at IS NULL")
            .fetch_one(&mut stranger)
            .await?;
    ensure!(left == 0, "{left} are looked at each time");
    let at = registry.find_question(&campaign.id, told).await?.told;
    ensure!(at == Told::At(fixture.now()), "{at:?}");
    let question = registry.find_question(&campaign.id, late).await?;
    ensure!((question.told, question.state) == (Told::Nobody, QuestionState::Cancelled));
    ensure!(question.answers_until == campaign.due_at);
    // Whoever read it before it was called off tells nobody.
    let of = MadeOf::Questions {
        campaign_id: campaign.id.clone(),
        key_ids: vec![late.clone()],
    };
    let told = registry.enqueue(of, Vec::new()).await;
    ensure!(matches!(told, Err(RegistryError::Changed)), "{told:?}");
    // And the keys are asked about anew.
    fixture.set_clock(fixture.now() + DAY_MS);
    begin(&fixture, Unanswered::Leave).await?;
    ensure!(registry.untold_questions(500).await?[0].keys.len() == 3);
    Ok(())
}

#[tokio::test]
async fn an_owner_is_told_of_all_their_keys_at_once_however_pages_are_cut() -> Result<()> {
    let fixture = super::fixture().await?;
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    for (id, keys) in [("ann", 2), ("bob", 3), ("cat", 5)] {
        let everything = ScopeSet::everything();
        registry
            .create_principal(actor, id, OwnerKind::Person, id, &everything)
            .await?;
        for _ in 0..keys {
            let owner = Some(Owner::new(OwnerKind::Person, id)?);
            fixture
                .issue_as(&NewApiKey {
                    owner,
                    ..super::wish("Unused")
                })
                .await?;
        }
    }
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    begin(&fixture, Unanswered::Leave).await?;
    // Four of a page are all of Ann's and two of Bob's; of Cat's alone, four are a page.
    let mut told = Vec::new();
    loop {
        let page = registry.untold_questions(4).await?;
        if page.is_empty() {
            break;
        }
        for asked in page {
            told.push((asked.owner_id, asked.keys.len()));
            let of = MadeOf::Questions {
                campaign_id: asked.campaign.id,
                key_ids: asked.keys.into_iter().map(|(id, _)| id).collect(),
            };
            ensure!(registry.enqueue(of, Vec::new()).await?);
        }
    }
    let told: Vec<_> = told.iter().map(|(id, keys)| (id.as_str(), *keys)).collect();
    ensure!(
        told == [("ann", 2), ("bob", 3), ("cat", 4), ("cat", 1)],
        "{told:?}"
    );
    Ok(())
}

#[tokio::test]
async fn where_nobody_can_be_told_nobodys_key_is_suspended() -> Result<()> {
    let fixture = super::fixture().await?;
    let silent = fixture.issue("Silent").await?;
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let campaign = begin(&fixture, Unanswered::Disable).await?;
    tell(&fixture, false).await?;
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    ensure!(registry.untold_questions(500).await?.is_empty());
    let question = registry.find_question(&campaign.id, &silent.key.id).await?;
    ensure!(question.told == Told::Nobody);
    fixture.set_clock(campaign.due_at);
    ensure!(registry.settle_campaigns(actor).await? == 1);
    ensure!(state(registry, &campaign, &silent.key.id).await? == QuestionState::Unanswered);
    ensure!(fixture.code(&silent).await? == "valid");
    Ok(())
}

#[tokio::test]
async fn a_campaign_that_cannot_be_settled_holds_no_other_and_no_other_job() -> Result<()> {
    let fixture = super::fixture().await?;
    let (one, two) = (fixture.issue("One").await?, fixture.issue("Two").await?);
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let (actor, registry) = (&fixture.actor, &fixture.registry);
    let mut campaigns = Vec::new();
    for key in [&one, &two] {
        let new = NewCampaign {
            name: "Autumn cleaning".into(),
            filter: unused(),
            due_at: fixture.now() + 10 * DAY_MS,
            unanswered: Unanswered::Disable,
        };
        let mut candidates = registry.campaign_candidates(&new.filter).await?;
        candidates.retain(|found| found.key_id == key.key.id);
        campaigns.push(registry.begin_campaign(actor, &new, candidates).await?);
    }
    tell(&fixture, true).await?;
    campaigns.sort_by(|one, two| one.id.cmp(&two.id));
    let mut stranger = fixture.stranger().await?;
    let damaged = "UPDATE hygiene_campaigns SET unanswered = 'burn' WHERE id = $1";
    sqlx::query(damaged)
        .bind(campaigns[0].id.clone())
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(campaigns[1].due_at);
    let folder = tempfile::tempdir()?;
    let secrets = ServerSecrets::create(&folder.path().join("secrets"))?;
    // A pepper under the fixture's name: nothing is verified here.
    let pepper = |id: &str| folder.path().join(format!("secrets/pepper-{id}.key"));
    let peppers = registry.pepper_id().await?.context("a pepper")?;
    std::fs::rename(pepper(&secrets.new_pepper()?), pepper(&peppers))?;
    let settings = Settings::new("http://127.0.0.1:1", folder.path().to_owned())?;
    let server = Server::build(settings, registry.clone(), secrets, fixture.clock()).await?;
    ensure!(server.do_due_work().await.is_err());
    let taken: Vec<String> = sqlx::query_scalar("SELECT name FROM jobs ORDER BY name")
        .fetch_all(&mut stranger)
        .await?;
    for behind in ["prune_people", "retention"] {
        ensure!(taken.iter().any(|name| name == behind), "{taken:?}");
    }
    let (second, progress) = registry.find_campaign(&campaigns[1].id).await?;
    ensure!(second.state() == "closed");
    ensure!(progress.by_state["disabled"] == 1, "{progress:?}");
    Ok(())
}

/// What was written into the outbox may never leave: who was mailed nothing was not silent.
#[tokio::test]
async fn nobodys_key_is_suspended_for_a_question_that_never_left() -> Result<()> {
    for (outcome, expected) in [
        (Some(Outcome::Failed), QuestionState::Unanswered),
        (Some(Outcome::Again(0)), QuestionState::Unanswered),
        (Some(Outcome::Delivered), QuestionState::Disabled),
        // Too many wait for its target: nothing was made.
        (None, QuestionState::Unanswered),
    ] {
        let fixture = super::fixture().await?;
        let (actor, registry) = (&fixture.actor, &fixture.registry);
        let silent = fixture.issue("Silent").await?;
        fixture.set_clock(fixture.now() + 2 * DAY_MS);
        let campaign = begin(&fixture, Unanswered::Disable).await?;
        let hook = NewWebhook {
            url: "https://example.org/hook".into(),
            events: vec!["*".into()],
            description: String::new(),
            secret: Sealed::new(vec![1; 40]),
        };
        let hook = registry.add_webhook(actor, &hook).await?.id;
        let message = |event_id: String, event_type: &str| NewMessage {
            event_id,
            event_type: event_type.into(),
            channel: Channel::Webhook,
            target: hook.clone(),
            body: b"{}".to_vec(),
        };
        // In masses, so that there is a limit that a test can reach.
        let mut kind = "hygiene.asked";
        if outcome.is_none() {
            kind = "key.issued";
            let many = (0..10_000).map(|number| message(format!("e{number}"), kind));
            registry.enqueue(MadeOf::Else, many.collect()).await?;
        }
        fixture.set_clock(campaign.due_at - 2 * DAY_MS);
        let asked = message(asked_event(&campaign.id, &silent.key.id), kind);
        let of = MadeOf::Questions {
            campaign_id: campaign.id.clone(),
            key_ids: vec![silent.key.id.clone()],
        };
        ensure!(registry.enqueue(of, vec![asked]).await?);
        let mut left_at = campaign.due_at + 2 * DAY_MS;
        if let Some(outcome) = &outcome {
            fixture.set_clock(campaign.due_at - DAY_MS / 2);
            let taken = registry.claim_messages(&[Channel::Webhook], 1).await?;
            let attempt = Attempt {
                attempt: 1,
                at: fixture.now(),
                duration_ms: 1,
                status: None,
                error: None,
                excerpt: String::new(),
            };
            registry
                .record_attempt(&taken[0].message.id, attempt, outcome.clone())
                .await?;
            left_at = fixture.now() + DAY_MS;
        }
        // At the due date, and a day after it left.
        fixture.set_clock(campaign.due_at);
        let closed = registry.settle_campaigns(actor).await?;
        let waits = matches!(outcome, Some(Outcome::Again(_) | Outcome::Delivered));
        ensure!((closed == 0) == waits, "{outcome:?} {closed}");
        if waits {
            fixture.set_clock(left_at - 1);
            ensure!(registry.settle_campaigns(actor).await? == 0, "{outcome:?}");
            let at = if outcome == Some(Outcome::Delivered) {
                left_at
            } else {
                // It waits for good: nobody sends it any more.
                campaign.due_at + DAY_MS + 1
            };
            fixture.set_clock(at);
            ensure!(registry.settle_campaigns(actor).await? == 1, "{outcome:?}");
        }
        let came = state(registry, &campaign, &silent.key.id).await?;
        ensure!(came == expected, "{outcome:?}: {came:?}");
        let works = fixture.code(&silent).await? == "valid";
        ensure!(works == (expected == QuestionState::Unanswered));
    }
    Ok(())
}
