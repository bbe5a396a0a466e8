"""Asks for every operation of the API's description once, about things that are there, so that each succeeds; and
lets schemathesis say whether what came fits the description. Run by tests/server/schema.rs with schemathesis's own
Python. Reads from stdin where the servers are and by whose authority to ask; prints one JSON object.
"""

import base64
import hashlib
import html
import json
import re
import sys
import time

import requests
import schemathesis
from schemathesis.core.failures import FailureGroup

DAY_MS = 24 * 60 * 60 * 1000
SCOPE = "tour:read"


@schemathesis.serializer("application/x-ndjson")
def lines_of_json(_context, value):
    return value.encode()


class Tour:
    """Who asks what, and what was reached."""

    def __init__(self, given):
        self.base = given["issuer"]
        self.schema = schemathesis.openapi.from_url(self.base + "/api/openapi.json")
        self.other = given["other"]
        self.root = {"headers": {"Authorization": "Bearer " + given["root_key"]}}
        self.email, self.password = given["email"], given["password"]
        self.reached, self.wrong = set(), []
        self.all = sorted(
            f"{one.ok().method.upper()} {one.ok().path}" for one in self.schema.get_all_operations()
        )

    def ask(self, asked, who=None, body=None, query=None, media="application/json", also=None, **path):
        """One operation, in the words of the description. Returns its JSON, or nothing."""
        method, template = asked.split(" ")
        who = self.root if who is None else who
        more = {} if body is None else {"body": body, "media_type": media}
        case = self.schema[template][method].Case(path_parameters=path, query=query or {}, **more)
        try:
            headers = {**who.get("headers", {}), **(also or {})}
            answer = case.call(timeout=30, headers=headers, cookies=who.get("cookies"))
            if answer.status_code >= 400:
                self.wrong.append(f"{asked}: {answer.status_code} {answer.text[:300]}")
                return None
            case.validate_response(answer)
        except FailureGroup as failures:
            self.wrong.append(f"{asked}: {failures.exceptions}")
            return None
        self.reached.add(asked)
        for cookie in answer.headers.get("set-cookie", []):
            name, value = cookie.split(";")[0].split("=", 1)
            who.setdefault("cookies", {})[name] = value
        kind = answer.headers.get("content-type", [""])[0]
        return json.loads(answer.content) if kind.startswith("application/json") else {}

    def part(self, part):
        """A part of the tour. What it misses shows among what was not reached."""
        try:
            part()
        except (KeyError, TypeError, IndexError) as error:
            self.wrong.append(f"{part.__name__}: {error!r}")

    def someone(self):
        """A browser that the owner signed in with, as pages do it."""
        cookies = {}
        page = requests.get(self.base + "/sign-in", timeout=30)
        cookies.update(page.cookies.get_dict())
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        fields = {"email": self.email, "password": self.password, "csrf_token": token}
        done = requests.post(
            self.base + "/sign-in", data=fields, cookies=cookies, allow_redirects=False, timeout=30
        )
        assert done.status_code == 303, (done.status_code, done.text[:300])
        cookies.update(done.cookies.get_dict())
        who = {"cookies": cookies, "headers": {}}
        who["headers"]["X-CSRF-Token"] = self.ask("GET /auth/csrfToken", who)["csrfToken"]
        return who

    def application(self, who):
        """Something that the person of a browser allows to act for them (RFC 6749 §4.1, RFC 7636)."""
        back, verifier = "http://127.0.0.1:9/back", "v" * 64
        digest = hashlib.sha256(verifier.encode()).digest()
        wish = {
            "client_id": "tour-app",
            "client_name": "tour",
            "redirect_uris": [back],
            "token_endpoint_auth_method": "none",
            "scope": "openid keys:read",
        }
        self.ask("POST /api/v1/clients", body=wish)
        asked = {
            "response_type": "code",
            "client_id": "tour-app",
            "redirect_uri": back,
            "scope": wish["scope"],
            "state": "s",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        more = {"cookies": who["cookies"], "allow_redirects": False, "timeout": 30}
        page = requests.get(self.base + "/oauth2/authorize", params=asked, **more)
        assert page.status_code == 200, (page.status_code, page.headers)
        hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
        fields = {**dict(hidden), "decision": "allow"}
        page = requests.post(self.base + "/oauth2/authorize/consent", data=fields, **more)
        # A program on this machine is shown the way back, others are sent there.
        target = page.headers.get("location") or html.unescape(page.text)
        code = re.search(r"[?&]code=([^&\"]+)", target).group(1)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
        form.update({"client_id": "tour-app", "code_verifier": verifier})
        done = requests.post(self.base + "/oauth2/token", data=form, timeout=30)
        assert done.status_code == 200, (done.status_code, done.text[:300])

    def key(self, **more):
        wish = {"name": "tour", "prefix": "sk_live", "scopes": [SCOPE], **more}
        issued = self.ask("POST /api/v1/keys", body=wish)
        return issued["key"]["id"], issued

    def keys(self):
        self.ask("PUT /api/v1/scopes", body={"name": SCOPE, "description": "for a tour"})
        self.ask("GET /api/v1/scopes")
        self.ask("GET /api/v1/permissions")
        self.ask("GET /api/v1/nodes")
        id, issued = self.key()
        self.ask("GET /api/v1/keys")
        self.ask("GET /api/v1/keys/counts")
        self.ask("GET /api/v1/keys/{id}", id=id)
        self.ask("PATCH /api/v1/keys/{id}", id=id, body={"name": "another"})
        self.ask("POST /api/v1/keys/verify", body={"key": issued["secret"]})
        self.ask("POST /api/v1/keys/preview", body={"ids": [id], "revoke": True})
        self.ask("POST /api/v1/keys/{id}/preview", id=id, body={"revoke": True})
        self.ask("GET /api/v1/keys/{id}/scope-proposal", id=id)
        self.ask("GET /api/v1/keys/{id}/notices", id=id)
        self.ask("POST /api/v1/keys/{id}/disable", id=id, body={"reason": "for a while"})
        self.ask("POST /api/v1/keys/{id}/enable", id=id)
        ended = self.ask("POST /api/v1/keys/{id}/revoke", id=id, body={"reason": "over"})
        self.ask("GET /api/v1/receipts/{version}", version=ended["receipt"]["version"])
        self.ask("PUT /api/v1/scopes", body={"name": "tour:remove"})
        self.ask("DELETE /api/v1/scopes/{name}", name="tour:remove")

    def owners(self):
        wish = {"kind": "service", "id": "tour-billing", "name": "Billing", "email": "billing@example.org"}
        of = {"id": self.ask("POST /api/v1/owners", body=wish)["id"]}
        path = "/api/v1/owners"
        self.ask("GET " + path)
        self.ask("GET " + path, query={"kind": "service", "limit": 1})
        self.ask("GET " + path + "/{id}", **of)
        self.ask("PATCH " + path + "/{id}", **of, body={"name": "Invoices", "email": ""})
        self.key(owner={"kind": "service", **of})
        self.ask("POST " + path + "/{id}/disable", **of, body={"reason": "paused"})
        self.ask("POST " + path + "/{id}/enable", **of)
        self.ask("POST " + path + "/{id}/revoke-keys", **of, body={"reason": "over"})

    def rotations(self):
        id, _ = self.key()
        of_key = {"id": id}
        self.ask("POST /api/v1/keys/{id}/rotations", **of_key, body={"clock": "from_first_use"})
        found = self.ask("GET /api/v1/keys/{id}/rotations", **of_key)["items"][0]
        of_rotation = {"id": id, "rotation_id": found["id"]}
        self.ask("GET /api/v1/keys/{id}/rotations/{rotation_id}", **of_rotation)
        path = "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries"
        report = {"target": "file:/srv/key", "delivered": False, "error": "no room", "then": "hold"}
        self.ask("POST " + path, **of_rotation, body=report)
        self.ask("GET " + path, **of_rotation)
        self.ask("POST /api/v1/keys/{id}/rotations/{rotation_id}/reissue", **of_rotation, body={})
        self.ask("GET /api/v1/keys/{id}/rotations/current/stragglers", **of_key)
        self.ask("GET /api/v1/overlaps/closing")
        self.ask("POST /api/v1/keys/{id}/rotations/current/{step}", **of_key, step="promote")
        key = self.ask("GET /api/v1/keys/{id}", **of_key)
        old = key["secrets"][0]["kid"]
        self.ask(
            "POST /api/v1/keys/{id}/secrets/{kid}/revoke", **of_key, kid=old, body={"reason": "leaked"}
        )
        # Nobody used the old secret for as long as is asked for: a rotation says how long that is.
        quiet, _ = self.key()
        wish = {"clock": "until_drained:60000:86400000"}
        self.ask("POST /api/v1/keys/{id}/rotations", id=quiet, body=wish)
        self.ask("POST /api/v1/keys/{id}/rotations/current/{step}", id=quiet, step="promote")
        self.ask("POST /api/v1/keys/{id}/rotations/current/finish-if-drained", id=quiet)

    def schedules(self):
        id, _ = self.key()
        path = "/api/v1/keys/{id}/schedule"
        self.ask("PUT " + path, id=id, body={"every_ms": DAY_MS, "mode": "notify_only"})
        self.ask("GET " + path, id=id)
        self.ask("GET /api/v1/schedules")
        for step in ["pause", "resume", "run-now"]:
            self.ask("POST " + path + "/{step}", id=id, step=step)
        self.ask("DELETE " + path, id=id)

    def policies(self):
        of = {"environment": "staging"}
        self.ask(
            "PUT /api/v1/policies/{environment}",
            **of,
            body={
                "max_lifetime_ms": 90 * DAY_MS,
                "never_expires_allowed": False,
                "min_overlap_ms": 0,
                "max_overlap_ms": 30 * DAY_MS,
                "overlap_clock": "from_first_use",
                "drain_ms": DAY_MS,
                "retire_on_max_age": False,
            },
        )
        self.ask("GET /api/v1/policies/{environment}", **of)
        self.ask("GET /api/v1/policies")
        self.ask("DELETE /api/v1/policies/{environment}", **of)

    def audit(self):
        self.ask("POST /api/v1/audit/checkpoints")
        for name in ["", "/verify", "/checkpoint-keys", "/export"]:
            self.ask("GET /api/v1/audit" + name)

    def alarms(self):
        """A canary that is used is an alert and a notice."""
        _, canary = self.key(scopes=[], settings={"canary": True})
        self.ask("POST /api/v1/keys/verify", body={"key": canary["secret"]})
        alert = self.ask("GET /api/v1/alerts")["items"][0]
        self.ask("POST /api/v1/alerts/{id}/seen", id=alert["id"], body={"last_at": alert["last_at"]})
        notice = self.ask("GET /api/v1/notices")["items"][0]
        self.ask("POST /api/v1/notices/{id}/read", id=notice["id"])
        self.ask("POST /api/v1/notices/read", body={"until": notice["id"]})

    def hygiene(self):
        id, _ = self.key(never_expires=True)
        self.ask("GET /api/v1/hygiene")
        self.ask("GET /api/v1/hygiene/{finding}", finding="never_expires")
        due_at = int(time.time() * 1000) + 10 * DAY_MS
        wish = {"name": "tour", "findings": ["never_expires"], "due_at": due_at, "unanswered": "leave"}
        campaign = {"id": self.ask("POST /api/v1/hygiene/campaigns", body=wish)["id"]}
        self.ask("GET /api/v1/hygiene/campaigns")
        self.ask("GET /api/v1/hygiene/campaigns/{id}", **campaign)
        self.ask("GET /api/v1/hygiene/campaigns/{id}/questions", **campaign)
        self.ask("GET /api/v1/hygiene/questions")
        answer = {"answer": "keep", "reason": "a machine that nobody reaches", "until": due_at}
        self.ask(
            "POST /api/v1/hygiene/campaigns/{id}/questions/{key_id}", **campaign, key_id=id, body=answer
        )
        self.ask("POST /api/v1/hygiene/campaigns/{id}/cancel", **campaign)

    def moving(self):
        self.ask("GET /api/v1/export")
        line = json.dumps({"name": "old", "hash": "ab" * 32, "last_four": "abcd", "scopes": [SCOPE]})
        self.ask("POST /api/v1/import", body=line, media="application/x-ndjson")
        # Here offers and takes what another registry bundles, and the other way round.
        offer = self.ask("POST /api/v1/promotions/offers")
        headers = {"Authorization": "Bearer " + self.other["root_key"]}

        def there(method, path, body):
            answer = requests.request(
                method, self.other["issuer"] + path, json=body, headers=headers, timeout=30
            )
            assert answer.status_code < 300, (path, answer.status_code, answer.text[:300])
            return answer.json()

        there("PUT", "/api/v1/scopes", {"name": SCOPE})
        wish = {"name": "moves", "prefix": "sk_live", "scopes": [SCOPE]}
        theirs = there("POST", "/api/v1/keys", wish)["key"]["id"]
        bundle = {"key_ids": [theirs], "recipient": offer["recipient"]}
        came = there("POST", "/api/v1/promotions/bundles", bundle)
        take = {key: came[key] for key in ["bundle", "peppers"]}
        took = self.ask(
            "POST /api/v1/promotions", body={**take, "offer": offer["offer"], "dry_run": False}
        )
        if took is not None and took["accepted"] != [theirs]:
            self.wrong.append(f"POST /api/v1/promotions: {took}")
        id, _ = self.key()
        recipient = there("POST", "/api/v1/promotions/offers", None)["recipient"]
        self.ask("POST /api/v1/promotions/bundles", body={"key_ids": [id], "recipient": recipient})
        self.ask("POST /api/v1/promotions/left", body={"key_ids": [id], "remote": "the other one"})
        self.ask("POST /api/v1/keys/{id}/end-copy", id=id, body={"reason": "it moved"})

    def events(self):
        """A stream has no end to wait for: its head and its first bytes are looked at."""
        asked = "GET /api/v1/events"
        with requests.get(
            self.base + "/api/v1/events", headers=self.root["headers"], stream=True, timeout=30
        ) as answer:
            described = self.schema["/api/v1/events"]["GET"].definition.raw["responses"]
            kind = answer.headers.get("content-type", "").split(";")[0]
            if answer.status_code != 200 or kind not in described["200"]["content"]:
                self.wrong.append(f"{asked}: {answer.status_code} {kind}")
                return
            self.key()
            if next(answer.iter_content(None)):
                self.reached.add(asked)

    def bulk(self):
        id, _ = self.key()
        wish = {"operation": "tag", "tag": "tour", "ids": [id]}
        begun = self.ask("POST /api/v1/bulk", body=wish)
        self.ask("GET /api/v1/bulk")
        self.ask("GET /api/v1/bulk/{id}", id=begun["id"])
        self.ask("GET /api/v1/bulk/{id}/failures", id=begun["id"])
        self.ask("POST /api/v1/bulk/{id}/cancel", id=begun["id"])

    def operations(self):
        """Requests that are answered later, until their answers are there."""
        line = json.dumps({"name": "old", "hash": "cd" * 32, "scopes": [SCOPE]})
        for asked, more in [
            ("GET /api/v1/audit/verify", {}),
            ("GET /api/v1/hygiene", {}),
            ("POST /api/v1/import", {"body": line, "media": "application/x-ndjson"}),
        ]:
            begun = self.ask(asked, also={"Prefer": "respond-async"}, **more)
            for _ in range(100):
                seen = self.ask("GET /api/v1/operations/{id}", id=begun["id"])
                if seen["state"] != "running":
                    break
                time.sleep(0.05)
            if seen["state"] != "done" or "result" not in seen:
                self.wrong.append(f"{asked}, later: {seen}")
        self.ask("GET /api/v1/operations")
        self.ask("POST /api/v1/operations/{id}/cancel", id=begun["id"])

    def clients(self):
        secret = {"client_name": "tour", "redirect_uris": ["https://app.example.org/back"]}
        made = self.ask("POST /api/v1/clients", body=secret)
        of = {"id": made["client"]["client_id"] if "client" in made else made["client_id"]}
        path = "/api/v1/clients"
        self.ask("GET " + path)
        self.ask("GET " + path + "/{id}", **of)
        self.ask("PATCH " + path + "/{id}", **of, body={"client_name": "another"})
        self.ask("POST " + path + "/{id}/rotate-secret", **of, body={})
        self.ask("POST " + path + "/{id}/revoke-tokens", **of)
        self.ask("POST " + path + "/{id}/disable", **of)
        self.ask("POST " + path + "/{id}/enable", **of)
        self.ask("DELETE " + path + "/{id}", **of)
        wish = {"note": "tour", "expires_in_days": 1, "max_uses": 1}
        token = self.ask("POST /api/v1/registration-tokens", body=wish)
        self.ask("GET /api/v1/registration-tokens")
        self.ask("DELETE /api/v1/registration-tokens/{id}", id=token["id"])

    def webhooks(self):
        wish = {"url": "http://127.0.0.1:9/hook", "events": ["*"], "description": "nobody listens"}
        made = self.ask("POST /api/v1/webhooks", body=wish)
        of = {"id": made["webhook"]["id"]}
        path = "/api/v1/webhooks"
        self.ask("GET " + path)
        self.ask("GET " + path + "/{id}", **of)
        self.ask("PATCH " + path + "/{id}", **of, body={"description": "still nobody"})
        self.ask("POST " + path + "/{id}/rotate-secret", **of)
        self.ask("POST " + path + "/{id}/test", **of)
        sent = self.ask("GET " + path + "/{id}/deliveries", **of)["items"][0]
        of_one = {**of, "delivery": sent["id"]}
        self.ask("GET " + path + "/{id}/deliveries/{delivery}", **of_one)
        self.ask("POST " + path + "/{id}/deliveries/{delivery}/redeliver", **of_one)
        failed = {"state": "failed", "since": 0}
        self.ask("POST " + path + "/{id}/deliveries/redeliver", **of, body=failed)
        self.ask("DELETE " + path + "/{id}", **of)

    def people(self):
        owner = self.someone()

        def ask(asked, **more):
            return self.ask(asked, owner, **more)

        ask("PUT /api/v1/roles/{name}", name="guide", body={"permissions": [SCOPE], "description": ""})
        ask("GET /api/v1/roles/{name}", name="guide")
        ask("GET /api/v1/roles")
        wish = {"name": "Ada", "email": "ada@example.org", "password": self.password}
        wish["email_verified"] = True
        of = {"id": ask("POST /api/v1/users", body=wish)["id"]}
        path = "/api/v1/users"
        ask("GET " + path)
        ask("GET " + path + "/{id}", **of)
        ask("PATCH " + path + "/{id}", **of, body={"name": "Ada L."})
        ask("PUT " + path + "/{id}/roles", **of, body={"roles": ["guide"]})
        ask("GET " + path + "/{id}/roles", **of)
        ada = {"headers": {}}
        login = {"email": wish["email"], "password": self.password}
        self.ask("POST /auth/login", ada, body=login)
        ask("GET " + path + "/{id}/sign-ins", **of)
        theirs = ask("GET " + path + "/{id}/sessions", **of)["items"][0]
        ask("DELETE " + path + "/{id}/sessions/{session_id}", **of, session_id=theirs["id"])
        ask("POST " + path + "/{id}/sessions/revoke-all", **of)
        ask("POST " + path + "/{id}/password-reset", **of, body={})
        ask("POST " + path + "/{id}/disable", **of, body={"reason": "away"})
        ask("POST " + path + "/{id}/enable", **of)
        ask("DELETE " + path + "/{id}", **of)
        ask("DELETE /api/v1/roles/{name}", name="guide")
        made = ask("POST /api/v1/invitations", body={"email": "bob@example.org"})
        ask("GET /api/v1/invitations")
        ask("DELETE /api/v1/invitations/{id}", id=made["invitation"]["id"])
        provider = {"kind": "github", "client_id": "c", "client_secret": "s-of-a-tour", "enabled": False}
        path = "/api/v1/identity-providers"
        ask("PUT " + path + "/{id}", id="github", body=provider)
        ask("GET " + path + "/{id}", id="github")
        ask("GET " + path)
        ask("DELETE " + path + "/{id}", id="github")

    def sessions(self):
        mine = self.someone()
        self.someone()
        self.ask("GET /auth/session", mine)
        login = {"email": self.email, "password": self.password}
        page = {"headers": {}}
        self.ask("POST /auth/login", page, body=login)
        self.ask("POST /auth/refresh", page)
        self.ask("GET /api/v1/sign-ins", mine)
        sessions = self.ask("GET /api/v1/sessions", mine)["items"]
        other = next(one for one in sessions if not one["current"])
        self.ask("DELETE /api/v1/sessions/{id}", mine, id=other["id"])
        self.application(mine)
        applications = self.ask("GET /api/v1/applications", mine)["items"]
        client = applications[0]["client_id"]
        self.ask("DELETE /api/v1/applications/{client_id}", mine, client_id=client)
        self.ask("POST /api/v1/sessions/revoke-others", mine)
        self.ask("POST /auth/signOut", mine, query={"token_type_hint": "session_token"})
        self.ask("POST /api/v1/sessions/revoke-all", self.someone())


def main():
    tour = Tour(json.load(sys.stdin))
    for part in [
        tour.keys,
        tour.owners,
        tour.rotations,
        tour.schedules,
        tour.policies,
        tour.audit,
        tour.alarms,
        tour.hygiene,
        tour.moving,
        tour.events,
        tour.bulk,
        tour.operations,
        tour.clients,
        tour.webhooks,
        tour.people,
        tour.sessions,
    ]:
        tour.part(part)
    print(json.dumps({"all": tour.all, "reached": sorted(tour.reached), "wrong": tour.wrong}))


main()
