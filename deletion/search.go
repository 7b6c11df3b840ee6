package deletion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
)

// A Pool is what ARM says of a managed HSM pool, as far as it matters to whoever still needs its connections.
type Pool struct {
	PublicAccess string // Enabled, Disabled, or a word Azure has not documented yet; empty: ARM did not say
	Connections  []Connection
}

// mostPages bounds a list: a next link that leads in circles ends.
const mostPages = 10_000

// Search lists the connections in some scopes, all pages, and keeps those that are wanted: Present with what was Listed, each once,
// in the order of their ids; or why that is not known. A scope that does not exist has none.
//
// The list of a subscription's pools carries their connections, so that a subscription costs a read for every page of it; a
// pool that is listed without any is asked itself.
func (c *Client) Search(ctx context.Context, scopes []Scope, wanted func(Connection) bool) (Outcome, error) {
	found := map[string]Connection{}
	total := Outcome{Kind: Present}
	for _, scope := range scopes {
		listed, out, err := c.list(ctx, scope)
		total.Sent += out.Sent
		switch {
		case err != nil || out.Kind != Present && out.Kind != Absent:
			out.Sent = total.Sent
			return out, err
		case total.HTTPStatus == 0:
			total.HTTPStatus, total.ARMRequestID = out.HTTPStatus, out.ARMRequestID
		}
		for _, connection := range listed {
			if wanted(connection) {
				found[strings.ToLower(connection.ID.String())] = connection
			}
		}
	}
	for _, connection := range found {
		total.Listed = append(total.Listed, connection)
	}
	slices.SortFunc(total.Listed, func(a, b Connection) int { return a.ID.Compare(b.ID) })
	return total, nil
}

// list lists the connections of one scope.
func (c *Client) list(ctx context.Context, scope Scope) ([]Connection, Outcome, error) {
	if scope.Pool != "" {
		return c.listPool(ctx, scope.pool())
	}
	client, err := armkeyvault.NewManagedHsmsClient(scope.SubscriptionID, c.credential, c.keyvault)
	if err != nil {
		return nil, unavailable(err, 0), nil
	}
	var pools []*armkeyvault.ManagedHsm
	var out Outcome
	if scope.ResourceGroup != "" {
		out, err = pages(ctx, client.NewListByResourceGroupPager(scope.ResourceGroup, nil), func(p armkeyvault.ManagedHsmsClientListByResourceGroupResponse) {
			pools = append(pools, p.Value...)
		})
	} else {
		out, err = pages(ctx, client.NewListBySubscriptionPager(nil), func(p armkeyvault.ManagedHsmsClientListBySubscriptionResponse) {
			pools = append(pools, p.Value...)
		})
	}
	if err != nil || out.Kind != Present {
		return nil, out, err
	}
	var connections []Connection
	for _, pool := range pools {
		more, asked, err := c.connectionsOf(ctx, scope, pool)
		out.Sent += asked.Sent
		if err != nil || asked.Kind != Present && asked.Kind != Absent {
			asked.Sent = out.Sent
			return nil, asked, err
		}
		connections = append(connections, more...)
	}
	return connections, out, nil
}

// connectionsOf takes a listed pool's connections from the list, or asks for them where that has none.
func (c *Client) connectionsOf(ctx context.Context, scope Scope, listed *armkeyvault.ManagedHsm) ([]Connection, Outcome, error) {
	if listed == nil || listed.ID == nil {
		return nil, strange(errors.New("ARM listed a pool without an id")), nil
	}
	pool, err := ParsePoolID(*listed.ID)
	if err == nil && !scope.Contains(pool) {
		err = fmt.Errorf("ARM listed %s, which is not in %s", pool, scope)
	}
	if err != nil {
		return nil, strange(err), nil
	}
	if listed.Properties == nil || len(listed.Properties.PrivateEndpointConnections) == 0 {
		return c.listPool(ctx, pool)
	}
	var connections []Connection
	for _, item := range listed.Properties.PrivateEndpointConnections {
		if item == nil {
			continue
		}
		connection, err := listedIn(pool, item.ID, item.Properties)
		if err != nil {
			return nil, strange(err), nil
		}
		connections = append(connections, connection)
	}
	return connections, Outcome{Kind: Present}, nil
}

// listPool lists the connections of one pool.
func (c *Client) listPool(ctx context.Context, pool PoolID) ([]Connection, Outcome, error) {
	client, err := armkeyvault.NewMHSMPrivateEndpointConnectionsClient(pool.SubscriptionID, c.credential, c.keyvault)
	if err != nil {
		return nil, unavailable(err, 0), nil
	}
	var connections []Connection
	var faults error
	out, err := pages(ctx, client.NewListByResourcePager(pool.ResourceGroup, pool.Name, nil),
		func(p armkeyvault.MHSMPrivateEndpointConnectionsClientListByResourceResponse) {
			for _, item := range p.Value {
				if item == nil {
					continue
				}
				connection, err := listedIn(pool, item.ID, item.Properties)
				faults = errors.Join(faults, err)
				connections = append(connections, connection)
			}
		})
	if faults != nil {
		out = strange(faults).after(out)
	}
	return connections, out, err
}

// ReadPool asks for a pool: Present with its Pool, or Absent, or why neither is known. Its connections are asked for only where it
// cannot be reached without them.
func (c *Client) ReadPool(ctx context.Context, id PoolID) (Outcome, error) {
	client, err := armkeyvault.NewManagedHsmsClient(id.SubscriptionID, c.credential, c.keyvault)
	if err != nil {
		return unavailable(err, 0), nil
	}
	var got armkeyvault.ManagedHsmsClientGetResponse
	out, err := get(ctx, func(ctx context.Context) (err error) {
		got, err = client.Get(ctx, id.ResourceGroup, id.Name, nil)
		return err
	})
	if err != nil || out.Kind != Present {
		return out, err
	}
	out.Pool = &Pool{}
	if p := got.Properties; p != nil && p.PublicNetworkAccess != nil {
		out.Pool.PublicAccess = string(*p.PublicNetworkAccess)
	}
	if !out.Pool.closed() {
		return out, nil
	}
	connections, listed, err := c.listPool(ctx, id)
	if err != nil || listed.Kind != Present {
		return listed.after(out), err
	}
	out.Pool.Connections = connections
	return out, nil
}

// Lifeline tells whether a connection is the last way into the pool: it has no public access, and no other connection is
// Approved and to stay.
func (p *Pool) Lifeline(id ConnectionID) bool {
	return p.closed() && !slices.ContainsFunc(p.Connections, func(c Connection) bool {
		return c.ID.Compare(id) != 0 && equalFold(c.Status, "Approved") && !equalFold(c.State, "Deleting")
	})
}

func (p *Pool) closed() bool { return equalFold(p.PublicAccess, "Disabled") }

// pages asks for every page of a list.
func pages[T any](ctx context.Context, pager *runtime.Pager[T], page func(T)) (Outcome, error) {
	total := Outcome{Kind: Present}
	for n := 0; pager.More(); n++ {
		if n == mostPages {
			return strange(fmt.Errorf("a list of ARM has more than %d pages", mostPages)).after(total), nil
		}
		out, err := get(ctx, func(ctx context.Context) error {
			got, err := pager.NextPage(ctx)
			if err == nil {
				page(got)
			}
			return err
		})
		out = out.after(total)
		if err != nil || out.Kind != Present {
			return out, err
		}
		total = out
	}
	return total, nil
}

// get does one exchange by a generated client, and says what came of it. The error is the context's cause.
func get(ctx context.Context, do func(context.Context) error) (Outcome, error) {
	asked, sent, cancel := exchange(ctx)
	defer cancel()
	var raw *http.Response
	err := do(policy.WithCaptureResponse(asked, &raw))
	if untrusted, ok := errors.AsType[untrustedError](err); ok {
		return Outcome{Kind: Untrusted, Code: CodeUntrusted, Message: untrusted.Error()}, nil
	}
	if raw == nil {
		return unavailable(err, int(sent.Load())), cause(ctx)
	}
	out := classify(askRead, read(raw)).sent(sent)
	if out.Kind == Present && err != nil {
		return unavailable(fmt.Errorf("ARM's answer cannot be read: %w", err), int(sent.Load())), nil
	}
	return out, nil
}

// strange is the outcome of an answer that cannot be acted upon, whatever it means.
func strange(err error) Outcome {
	return Outcome{Kind: Rejected, Code: "UnexpectedAnswer", Message: cut(err.Error(), 2048)}
}

// after is the outcome of an exchange that came after others.
func (o Outcome) after(before Outcome) Outcome {
	o.Sent += before.Sent
	return o
}

// listedIn reads a connection of a list of this pool's.
func listedIn(pool PoolID, id *string, properties *armkeyvault.MHSMPrivateEndpointConnectionProperties) (Connection, error) {
	if id == nil {
		return Connection{}, fmt.Errorf("ARM listed a connection of %s without an id", pool)
	}
	connection, err := ParseConnectionID(*id)
	switch {
	case err != nil:
		return Connection{}, fmt.Errorf("ARM listed a connection that this version cannot name: %w", err)
	case !SameID(connection.Pool.String(), pool.String()):
		return Connection{}, fmt.Errorf("ARM listed %s as a connection of %s", connection, pool)
	}
	found := found(properties)
	found.ID = connection
	return found, nil
}
