package main

import (
	"fmt"
	"slices"
	"strings"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/worker"
)

// A sample is one request of the demo: what is sent, how ARM answers, and how it must end.
type sample struct {
	name    string // also the message id, and the request id where the body has none
	shows   string
	body    string
	pool    string         // where the connection is; empty: there is none
	found   arm.Connection // as ARM has it; its name is the sample's
	end     worker.Reason
	code    string // the event's error code
	deletes int    // that ARM must have seen
	comesOf bool   // another sample, and is not sent; the name begins with that one's
}

const (
	samplePool = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedHSMs/sample-mhsm"
	// The throttled request has a subscription of its own: a 429 closes the gate for all of a subscription.
	busyPool   = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/busy-group/providers/Microsoft.KeyVault/managedHSMs/busy-mhsm"
	othersPool = "/subscriptions/99999999-9999-9999-9999-999999999999/resourceGroups/theirs/providers/Microsoft.KeyVault/managedHSMs/not-ours"
	// The swept pool has no public access, and one connection that is its last way in.
	sweptPool    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedHSMs/swept-mhsm"
	goneEndpoint = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/retired-pe"
	goneGroup    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/removed-group/providers/Microsoft.KeyVault/managedHSMs/removed-mhsm"
)

// sampleScopes are what the demo's worker may touch, and searches.
var sampleScopes = []string{"/subscriptions/00000000-0000-0000-0000-000000000000", "/subscriptions/11111111-1111-1111-1111-111111111111"}

// samples has every kind of end, and every way there.
var samples = []sample{
	{name: "sample-pec", shows: "the documentation's own request; its Retry-After of 60 shortened to 2",
		pool: samplePool, found: answers(started(arm.Operation{Polls: 0, RetryAfter: "2", End: "200"})), end: worker.EndDeleted, deletes: 1},
	{name: "at-once", shows: "200: gone at once", pool: samplePool, end: worker.EndDeleted, deletes: 1},
	{name: "not-there", shows: "204: it did not exist; force skips the look at the pool", body: request(samplePool, "not-there", `,"force":true`), end: worker.EndAbsent, deletes: 1},
	{name: "location", shows: "202 with Location, polled until 204",
		pool: samplePool, found: answers(started(arm.Operation{Polls: 3, RetryAfter: "1"})), end: worker.EndDeleted, deletes: 1},
	{name: "async", shows: "202 with Azure-AsyncOperation, polled until Succeeded",
		pool: samplePool, found: answers(started(arm.Operation{Header: arm.HeaderAsyncOperation, Polls: 2, RetryAfter: "1"})), end: worker.EndDeleted, deletes: 1},
	{name: "op-fails", shows: "an operation that ends as Failed",
		pool: samplePool, found: answers(started(arm.Operation{Header: arm.HeaderAsyncOperation, Polls: 1, RetryAfter: "1", End: "Failed", Code: "PrivateEndpointBusy", Message: "The private endpoint is in use."})),
		end: worker.EndFailed, code: "PrivateEndpointBusy", deletes: 1},
	{name: "op-forgotten", shows: "an operation that ARM forgot: read back, gone",
		pool: samplePool, found: answers(started(arm.Operation{Polls: 1, RetryAfter: "1", End: "404"})), end: worker.EndDeleted, deletes: 1},
	{name: "throttled", shows: "429 that passes",
		pool: busyPool, found: answers(arm.Answer{Status: 429, RetryAfter: "2"}), end: worker.EndDeleted, deletes: 2},
	{name: "unavailable", shows: "503 that passes",
		pool: samplePool, found: answers(arm.Answer{Status: 503, RetryAfter: "1"}), end: worker.EndDeleted, deletes: 2},
	{name: "conflict", shows: "409 that passes",
		pool: samplePool, found: answers(arm.Answer{Status: 409, Code: "ConflictError"}), end: worker.EndDeleted, deletes: 2},
	{name: "locked", shows: "409 of a management lock: a person must act",
		pool: samplePool, found: answers(arm.Answer{Status: 409, Code: "ScopeLocked"}), end: worker.EndRejected, code: "ScopeLocked", deletes: 1},
	{name: "policy", shows: "403 of a deny policy",
		pool: samplePool, found: answers(arm.Answer{Status: 403, Code: "RequestDisallowedByPolicy"}), end: worker.EndRejected, code: "RequestDisallowedByPolicy", deletes: 1},
	{name: "untrusted", shows: "an operation URL on a stranger's host: nothing is sent there",
		pool: samplePool, found: answers(started(arm.Operation{URL: "https://stranger.example/operation"})), end: worker.EndFailed, code: "UntrustedOperationUrl", deletes: 1},
	{name: "pool-is-gone", shows: "404 of the resource group: absent, and the event says why",
		body: request(goneGroup, "pool-is-gone", ""), end: worker.EndAbsent, code: "ResourceGroupNotFound"},
	{name: "malformed", shows: "a body that is no JSON", body: `{"connectionId": "/subscriptions/`, end: worker.EndInvalid, code: "InvalidRequest"},
	{name: "misspelt", shows: "a misspelt guard is refused, not ignored",
		body: request(samplePool, "at-once", `,"statuss":["Disconnected"]`), end: worker.EndInvalid, code: "InvalidRequest"},
	{name: "out-of-scope", shows: "outside --allow-scope: ARM is not asked",
		body: request(othersPool, "out-of-scope", ""), end: worker.EndOutOfScope, code: "OutOfScope"},
	{name: "dry-run", shows: "a dry run: read and reported, not deleted",
		body: request(samplePool, "dry-run", `,"dryRun":true`), pool: samplePool, end: worker.EndDryRun},
	{name: "still-in-use", shows: "a guard: only when Disconnected, and it is Approved",
		body: request(samplePool, "still-in-use", `,"status":["Disconnected"]`), pool: samplePool, found: arm.Connection{Status: "Approved"}, end: worker.EndStatusMismatch},
	{name: "cloud-event", shows: "a CloudEvent with the request as its data",
		body: `{"specversion":"1.0","id":"cloud-event","source":"/tickets","type":"Contoso.Decommissioned","data":` + request(samplePool, "cloud-event", "") + `}`,
		pool: samplePool, end: worker.EndDeleted, deletes: 1},
	{name: "sweep", shows: "a selector: every Disconnected connection of a pool becomes a request",
		body: `{"managedHsmId":"` + sweptPool + `","status":["Disconnected"]}`, end: worker.EndExpanded},
	{name: "sweep/left-1", comesOf: true, pool: sweptPool, end: worker.EndDeleted, deletes: 1},
	{name: "sweep/left-2", comesOf: true, pool: sweptPool, end: worker.EndDeleted, deletes: 1},
	{name: "endpoint-gone", shows: "Event Grid: a private endpoint was deleted; what it left behind is looked for",
		body: `{"specversion":"1.0","id":"endpoint-gone","source":"/subscriptions/00000000-0000-0000-0000-000000000000","type":"Microsoft.Resources.ResourceDeleteSuccess","subject":"` + goneEndpoint + `","data":{"status":"Succeeded"}}`,
		end:  worker.EndExpanded},
	{name: "endpoint-gone/behind", comesOf: true, pool: samplePool, found: arm.Connection{PrivateEndpointID: goneEndpoint}, end: worker.EndDeleted, deletes: 1},
	{name: "lifeline", shows: "the last Approved connection of a pool without public access: --protect-last-approved",
		body: request(sweptPool, "lifeline", ""), pool: sweptPool, found: arm.Connection{Status: "Approved"}, end: worker.EndProtected},
}

func answers(a ...arm.Answer) arm.Connection { return arm.Connection{Script: arm.Script{Deletes: a}} }

func started(o arm.Operation) arm.Answer {
	return arm.Answer{Status: 202, RetryAfter: o.RetryAfter, Operation: &o}
}

func request(pool, name, more string) string {
	return fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/%s"%s}`, pool, name, more)
}

// text is the body that is sent.
func (s sample) text() string {
	if s.body != "" {
		return s.body
	}
	pool := s.pool
	if pool == "" {
		pool = samplePool
	}
	return request(pool, s.name, "")
}

// connectionID is what ARM counts the sample's DELETEs under.
func (s sample) connectionID() string {
	pool := s.pool
	switch {
	case strings.Contains(s.body, goneGroup):
		pool = goneGroup
	case pool == "":
		pool = samplePool
	}
	return pool + "/privateEndpointConnections/" + s.connection()
}

// connection is the name of the sample's connection.
func (s sample) connection() string { return s.name[strings.LastIndex(s.name, "/")+1:] }

// seedSamples gives ARM what the samples need.
func seedSamples(sim *arm.Simulator) error {
	for _, id := range []string{samplePool, busyPool, sweptPool} {
		pool := arm.Pool{ID: id}
		if id == sweptPool {
			pool.PublicNetworkAccess = "Disabled"
		}
		for _, s := range slices.Concat(samples, lingering) {
			if s.pool == id {
				s.found.Name = s.connection()
				if s.found.Status == "" {
					s.found.Status = "Disconnected"
				}
				pool.Connections = append(pool.Connections, s.found)
			}
		}
		if err := sim.AddPool(pool); err != nil {
			return err
		}
	}
	return nil
}
