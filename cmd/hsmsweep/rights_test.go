package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	readPools       = "Microsoft.KeyVault/managedHSMs/read"
	readConnections = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/read"
	deletesThem     = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete"
	readResults     = "Microsoft.KeyVault/locations/managedHsmOperationResults/read"
	readPermissions = "Microsoft.Authorization/permissions/read" // of who checks; not the worker's
)

// Azure's own roles, by their ids, which are the same everywhere.
const (
	dataReceiver = "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0"
	dataSender   = "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39"
)

// workersRights are those that the Bicep gives the worker's identity, as deploy/check evaluates it: at ARM by the actions of the roles that are
// defined there, at Service Bus by the entities on which it has the data roles.
func workersRights(t *testing.T) (rights fault.Rights) {
	t.Helper()
	actions := map[string][]string{} // by the role's id
	assigned := map[string]string{}  // roles' ids, by the assignment's own
	for _, r := range goldenResources(t) {
		var p struct {
			Permissions                   []struct{ Actions []string }
			RoleDefinitionID, PrincipalID string
		}
		if !strings.HasPrefix(r.Type, "Microsoft.Authorization/role") {
			continue
		}
		if err := json.Unmarshal(r.Properties, &p); err != nil {
			t.Fatal(err)
		}
		for _, permission := range p.Permissions {
			actions[r.ID] = append(actions[r.ID], permission.Actions...)
		}
		if strings.Contains(p.PrincipalID, "-worker.") {
			assigned[r.ID] = p.RoleDefinitionID
		}
	}
	for id, role := range assigned {
		rights.Actions = append(rights.Actions, actions[role]...)
		scope, _, _ := strings.Cut(id, "/providers/Microsoft.Authorization/")
		switch entity := scope[strings.LastIndexByte(scope, '/')+1:]; {
		case strings.HasSuffix(role, dataReceiver):
			rights.Receive = append(rights.Receive, entity)
		case strings.HasSuffix(role, dataSender):
			rights.Send = append(rights.Send, entity)
		}
	}
	for _, names := range []*[]string{&rights.Actions, &rights.Receive, &rights.Send} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return rights
}

// everybodysRights are the worker's, and those of people who operate it, read events, and check. With no others all tests run.
func everybodysRights(t *testing.T) fault.Rights {
	r := workersRights(t)
	r.Receive = append(r.Receive, defaultEvents+"/Subscriptions/"+defaultSubscription)
	r.Actions = append(r.Actions, readPermissions)
	return r
}

// limited is an Azure with a pool that has something for every action, for an identity with these rights.
func limited(t *testing.T, rights fault.Rights, denied ...string) *azure {
	t.Helper()
	entities := broker.DefaultConfig()
	entities.Queues[0].DeadLetterOnExpiration = true
	entities.Topics[0].DuplicateDetectionWindow = 7 * day
	operation := func(header string) arm.Connection {
		c := answers(arm.Answer{Status: http.StatusAccepted, Operation: &arm.Operation{Header: header, Polls: 1, RetryAfter: "1"}, RetryAfter: "1"})
		c.Status = "Disconnected"
		return c
	}
	pool := arm.Pool{ID: samplePool, PublicNetworkAccess: "Disabled", Denied: denied}
	for name, c := range map[string]arm.Connection{
		"location": operation(arm.HeaderLocation), "async": operation(arm.HeaderAsyncOperation),
		"locked": answers(arm.Answer{Status: http.StatusConflict, Code: "ScopeLocked"}), "kept": {Status: "Approved"},
	} {
		c.Name = name
		pool.Connections = append(pool.Connections, c)
	}
	a := newAzureOf(t, emulator.Options{Entities: entities, Faults: rights.Then(nil)}, pool)
	a.serve(t)
	return a
}

// TestWorkersRights has what the Bicep gives: four actions, and three data roles.
func TestWorkersRights(t *testing.T) {
	want := fault.Rights{Actions: []string{readResults, deletesThem, readConnections, readPools}, Receive: []string{defaultQueue}, Send: []string{defaultQueue, defaultEvents}}
	if diff := cmp.Diff(want, workersRights(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestLeastPrivilege has a worker do everything that a worker does, selectors, both kinds of operations, every guard and reading back,
// with the rights that deploy/ gives and with none besides.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	a := limited(t, workersRights(t))
	w := a.worker(t, "--verify", "--protect-last-approved", "--search-scope=/subscriptions/00000000-0000-0000-0000-000000000000", "--log-level=warn")
	sender := a.sender(t) // it has the right to send, as every requester
	put(t, sender, "sweep", fmt.Sprintf(`{"managedHsmId":%q,"status":["Disconnected"]}`, samplePool))
	put(t, sender, "endpoint", `{"privateEndpointId":"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/none"}`)
	put(t, sender, "lifeline", fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/kept"}`, samplePool))
	put(t, sender, "locked", fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/locked","status":["Approved"]}`, samplePool))
	events, err := a.Broker.Entity(defaultEvents + "/Subscriptions/" + defaultSubscription)
	if err != nil {
		t.Fatal(err)
	}
	// sweep and its two, endpoint (noMatch), lifeline (protected), locked (rejected)
	eventually(t, "all have ended", func() bool { return events.Counts().Active == 6 })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	if text := w.err.text(); strings.Contains(text, "nauthorized") || strings.Contains(text, "AuthorizationFailed") {
		t.Errorf("something was refused:\n%s", text)
	}
	for _, name := range []string{"location", "async"} {
		if a.ARM.Exists(samplePool + "/privateEndpointConnections/" + name) {
			t.Errorf("%s is there", name)
		}
	}
	wantFindings(t, a.check(t, 0), map[string]string{"arm.rights": "unknown: Microsoft.Authorization/permissions/read"})
}

// TestMissingRights takes every right away, one at a time: check names it, and a worker says clearly what it is refused.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	without := func(names []string, name string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
	}
	for name, tt := range map[string]struct {
		take   func(*fault.Rights)
		action string            // of ARM
		found  map[string]string // by check
		body   string            // of a request that needs the right
		says   string            // the worker
	}{
		"receive requests": {take: func(r *fault.Rights) { r.Receive = nil }, says: "nauthorized",
			found: map[string]string{"queue.receive": "failure: connection-deletes refuses this identity"}},
		"send requests": {take: func(r *fault.Rights) { r.Send = without(r.Send, defaultQueue) }, says: "the request queue: ",
			found: map[string]string{"queue.send": "failure: connection-deletes refuses this identity"}},
		"send events": {take: func(r *fault.Rights) { r.Send = without(r.Send, defaultEvents) }, says: "the entity for events: ",
			found: map[string]string{"events.send": "failure: connection-events refuses this identity"}},
		"delete": {action: deletesThem, says: `"answer":"denied"`, body: "async",
			found: map[string]string{"arm.rights": "failure: " + deletesThem}},
		"read connections": {action: readConnections, says: `"answer":"denied"`, body: "location",
			found: map[string]string{"arm.rights": "failure: " + readConnections, "arm.connections": "failure: every poll", "arm.pool": "warning: "}}, // reading a pool is reading its connections, too
		"read results": {action: readResults, says: `"answer":"denied"`, body: "async",
			found: map[string]string{"arm.rights": "warning: " + readResults}},
		"read pools": {action: readPools, says: `"answer":"denied"`, body: "kept",
			found: map[string]string{"arm.rights": "failure: " + readPools, "arm.pool": "failure: may not be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rights := workersRights(t)
			var denied []string
			if tt.take != nil {
				tt.take(&rights)
			} else {
				rights.Actions = append(without(rights.Actions, tt.action), readPermissions)
				denied = []string{tt.action}
			}
			a := limited(t, rights, denied...)
			var vars []string
			if tt.action == readPools {
				vars = append(vars, "HSMSWEEP_PROTECT_LAST_APPROVED=true")
			}
			code := 0
			for _, text := range tt.found {
				if strings.HasPrefix(text, "failure") {
					code = 1
				}
			}
			want := map[string]string{}
			for check, text := range tt.found {
				want[check] = text
			}
			if tt.take != nil { // that ARM does not tell the rights is not what is missing
				want["arm.rights"] = "unknown: Microsoft.Authorization/permissions/read"
			}
			wantFindings(t, a.check(t, code, vars...), want)
			if tt.body != "" {
				put(t, a.sender(t), "r", fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/%s"}`, samplePool, tt.body))
			}
			args := []string{}
			if len(vars) > 0 {
				args = append(args, "--protect-last-approved")
			}
			w := a.worker(t, args...)
			w.wantLine(t, tt.says)
			w.terminate(t)
			w.wantExit(t, 0, 10*time.Second)
		})
	}
}
