package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"hsmsweep/deletion"
)

// An armCheck looks at ARM. It only reads.
type armCheck struct {
	client     *deletion.Client
	settings   settings
	pools      []deletion.PoolID
	credential azcore.TokenCredential
}

func newARMCheck(s settings, pools []deletion.PoolID, credential azcore.TokenCredential) (*armCheck, error) {
	client, err := deletion.NewClient(deletion.Options{Credential: credential, Cloud: s.cloud, APIVersion: s.apiVersion, PollHosts: s.pollHosts})
	return &armCheck{client, s, pools, credential}, err
}

// run goes on as far as there is something to be learnt.
func (a *armCheck) run(ctx context.Context) []finding {
	findings, open := a.door(ctx)
	if !open {
		return append(findings, unclear("arm.rights", "not looked at, because ARM was not reached", ""))
	}
	if len(a.pools) == 0 {
		findings = append(findings, unclear("arm.rights", "not looked at: no pool was named", "name one that the worker is to clean up as --pool"))
	}
	for _, pool := range a.pools {
		findings = append(findings, a.pool(ctx, pool)...)
	}
	for _, scope := range a.settings.policy.SearchScopes {
		findings = append(findings, a.search(ctx, scope))
	}
	return findings
}

// door tells whether ARM lets this identity ask anything: a token, the host, and ARM's word on the token.
func (a *armCheck) door(ctx context.Context) (findings []finding, open bool) {
	service := a.settings.cloud.Services[cloud.ResourceManager]
	asked, cancel := context.WithTimeout(ctx, stepTimeout)
	_, err := a.credential.GetToken(asked, policy.TokenRequestOptions{Scopes: []string{service.Audience + "/.default"}})
	cancel()
	findings = append(findings, judgeToken("arm.token", service.Audience, err))
	if err != nil {
		return findings, false
	}
	if err := a.client.Reach(ctx); err != nil { // it has a time-out of its own
		return append(findings, failure("arm.reach", cutText(err),
			"see the name, the firewall and the proxy; the certificate of a proxy that looks inside is trusted by SSL_CERT_FILE")), false
	}
	out, when, err := read(ctx, a.client.Greet)
	greeting := judgeGreeting("arm.answer", asOutcome(out, err))
	findings = append(findings, fine("arm.reach", "%s", service.Endpoint), greeting)
	if when.answered() {
		findings = append(findings, judgeClock("arm.clock", "ARM", when))
	}
	return findings, greeting.Result != isFailure
}

// pool looks at one pool: is it there, may its connections be read, and what do the roles allow.
func (a *armCheck) pool(ctx context.Context, id deletion.PoolID) []finding {
	there, _, err := read(ctx, func(ctx context.Context) (deletion.Outcome, error) { return a.client.ReadPool(ctx, id) })
	findings := present(judgeAllowed(id, a.settings.policy.AllowScopes), judgePool(id, asOutcome(there, err), a.readsPools()))
	if there.Kind != deletion.Present && there.Kind != deletion.Denied {
		return findings // what hangs on it would say the same again
	}
	listed, _, err := read(ctx, func(ctx context.Context) (deletion.Outcome, error) {
		return a.client.Search(ctx, []deletion.Scope{id.Scope()}, everyConnection)
	})
	findings = append(findings, judgeConnections(id, asOutcome(listed, err)))
	var permissions []deletion.Permission
	out, _, err := read(ctx, func(ctx context.Context) (out deletion.Outcome, err error) {
		permissions, out, err = a.client.Permissions(ctx, id)
		return out, err
	})
	return append(findings, judgeRights(id, permissions, asOutcome(out, err), a.readsPools()))
}

// readsPools tells whether the worker, as it is configured, asks for pools themselves, and not only for connections.
func (a *armCheck) readsPools() bool {
	return a.settings.policy.ProtectLastApproved || slices.ContainsFunc(a.settings.policy.SearchScopes, func(s deletion.Scope) bool { return s.Pool == "" })
}

func (a *armCheck) search(ctx context.Context, scope deletion.Scope) finding {
	out, _, err := read(ctx, func(ctx context.Context) (deletion.Outcome, error) {
		return a.client.Search(ctx, []deletion.Scope{scope}, everyConnection)
	})
	return judgeSearch(scope, asOutcome(out, err))
}

func everyConnection(deletion.Connection) bool { return true }

// asOutcome takes a time that ran out for what it is: no answer.
func asOutcome(out deletion.Outcome, err error) deletion.Outcome {
	if err != nil {
		return deletion.Outcome{Kind: deletion.Unavailable, Code: "NoAnswer", Message: err.Error()}
	}
	return out
}

// useRole is what to do about every missing right.
const useRole = "assign the role in deploy/role.json to the worker's identity on the pool, its group or its subscription; it takes minutes to spread"

func judgeGreeting(check string, out deletion.Outcome) finding {
	switch {
	case out.HTTPStatus == http.StatusUnauthorized:
		return failure(check, "ARM does not take the token: "+told(out), "see --cloud and --arm-audience, and the tenant of the identity")
	case out.HTTPStatus == 0:
		return failure(check, "ARM does not answer: "+told(out), "see the firewall and the proxy between here and there")
	case out.Kind == deletion.Throttled || out.Kind == deletion.Unavailable:
		return warning(check, "ARM takes the token, and is not well: "+told(out), "see Azure's status; the worker would wait")
	}
	return fine(check, "ARM takes the token")
}

func judgeAllowed(pool deletion.PoolID, allowed []deletion.Scope) finding {
	if len(allowed) == 0 || slices.ContainsFunc(allowed, func(s deletion.Scope) bool { return s.Contains(pool) }) {
		return finding{}
	}
	return warning("arm.scope", pool.Name+" is outside every --allow-scope: requests about it end as outOfScope", "allow it, its group or its subscription")
}

func judgePool(pool deletion.PoolID, out deletion.Outcome, needed bool) finding {
	const check = "arm.pool"
	switch out.Kind {
	case deletion.Present:
		return fine(check, "%s, public access %s", pool.Name, strings.ToLower(out.Pool.PublicAccess))
	case deletion.Absent:
		return failure(check, fmt.Sprintf("%s is not there: %s", pool.Name, told(out)),
			"name an ARM id of a pool as --pool; if it is right, the identity may be of another tenant")
	case deletion.Denied:
		if needed {
			return failure(check, fmt.Sprintf("%s may not be read, as --protect-last-approved and --search-scope need: %s", pool.Name, told(out)),
				useRole)
		}
		return warning(check, fmt.Sprintf("%s may not be read; the worker does without: %s", pool.Name, told(out)), useRole)
	}
	return unread(check, pool.Name, out)
}

func judgeConnections(pool deletion.PoolID, out deletion.Outcome) finding {
	const check = "arm.connections"
	switch out.Kind {
	case deletion.Present:
		return fine(check, "%s has %s", pool.Name, tally(out.Listed))
	case deletion.Denied:
		return failure(check, fmt.Sprintf("the connections of %s may not be read, which guards and every poll need: %s", pool.Name, told(out)),
			useRole)
	}
	return unread(check, "the connections of "+pool.Name, out)
}

// judgeRights goes by what ARM says of the roles. Locks, policies and deny assignments it does not say.
func judgeRights(pool deletion.PoolID, permissions []deletion.Permission, out deletion.Outcome, readsPools bool) finding {
	const check = "arm.rights"
	if out.Kind != deletion.Present {
		return unclear(check, fmt.Sprintf("ARM does not tell the rights on %s: %s", pool.Name, told(out)),
			"check as somebody with Microsoft.Authorization/permissions/read, or look by hand whether the role in deploy/role.json is assigned")
	}
	missing := func(actions ...string) string {
		return strings.Join(slices.DeleteFunc(actions, func(action string) bool { return deletion.Allows(permissions, action) }), ", ")
	}
	needed, useful := []string{deletion.ActionDelete, deletion.ActionReadConnections}, []string{deletion.ActionFollow}
	if readsPools {
		needed = append(needed, deletion.ActionReadPools)
	} else {
		useful = append(useful, deletion.ActionReadPools)
	}
	if lacks := missing(needed...); lacks != "" {
		return failure(check, fmt.Sprintf("the identity lacks, on %s: %s", pool.Name, lacks), useRole)
	}
	if lacks := missing(useful...); lacks != "" {
		return warning(check, fmt.Sprintf("the identity lacks, on %s, what is not always needed: %s", pool.Name, lacks), useRole)
	}
	return fine(check, "%s: to read and delete connections, and to follow operations", pool.Name)
}

func judgeSearch(scope deletion.Scope, out deletion.Outcome) finding {
	const check = "arm.search"
	switch {
	case out.Kind == deletion.Present && out.HTTPStatus == http.StatusNotFound: // a search takes what is not there for empty
		return failure(check, scope.String()+" is not there: nothing would ever be found in it", "mend --search-scope")
	case out.Kind == deletion.Present:
		return fine(check, "%s has %s", scope, tally(out.Listed))
	case out.Kind == deletion.Denied || out.Kind == deletion.Rejected:
		return failure(check, fmt.Sprintf("%s cannot be searched: %s", scope, told(out)),
			"see whether --search-scope is right; to search a subscription, assign the role in deploy/role.json on it")
	}
	return unread(check, scope.String(), out)
}

// unread is what neither a right nor a wrong can be made of.
func unread(check, what string, out deletion.Outcome) finding {
	if out.Kind == deletion.Rejected {
		return failure(check, fmt.Sprintf("%s cannot be read: %s", what, told(out)), "see whether the id and --api-version are right")
	}
	return unclear(check, fmt.Sprintf("%s was not read: %s", what, told(out)), "try again")
}

// told is an answer of ARM's in its own words.
func told(out deletion.Outcome) string {
	text := out.Code
	if out.HTTPStatus != 0 {
		text = fmt.Sprintf("HTTP %d %s", out.HTTPStatus, out.Code)
	}
	if out.Message != "" {
		text += ": " + plain(shorten(out.Message, 300))
	}
	return strings.TrimSuffix(strings.TrimSpace(text), ".")
}

// tally counts connections by their state.
func tally(listed []deletion.Connection) string {
	states := map[string]int{}
	for _, c := range listed {
		states[c.Status]++
	}
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
	}
	if len(parts) == 0 {
		return "no connections"
	}
	return "connections: " + strings.Join(parts, ", ")
}
