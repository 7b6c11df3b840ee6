package deletion

import (
	"fmt"
	"strings"
)

// A Scope is a part of Azure below which deleting is allowed: a subscription, a resource group or a pool. The parts below
// it are empty.
type Scope struct {
	SubscriptionID, ResourceGroup, Pool string
}

// ParseScope reads the ARM id of a subscription, a resource group or a managed HSM pool.
func ParseScope(id string) (Scope, error) {
	segments := strings.Split(id, "/")
	if len(segments) > 5 {
		pool, err := ParsePoolID(id)
		return Scope{pool.SubscriptionID, pool.ResourceGroup, pool.Name}, err
	}
	if len(segments) < 3 || segments[0] != "" || !equalFold(segments[1], "subscriptions") ||
		len(segments) == 4 || len(segments) == 5 && !equalFold(segments[3], "resourceGroups") {
		return Scope{}, fmt.Errorf("%s is not the ARM id of a subscription, a resource group or a managed HSM pool", quote(id))
	}
	scope := Scope{SubscriptionID: segments[2]}
	if err := subscriptionName.check(scope.SubscriptionID); err != nil {
		return Scope{}, err
	}
	if len(segments) == 5 {
		scope.ResourceGroup = segments[4]
		if err := groupName.check(scope.ResourceGroup); err != nil {
			return Scope{}, err
		}
	}
	return scope, nil
}

// Contains compares name by name: a resource group "app" does not contain "app2".
func (s Scope) Contains(p PoolID) bool {
	return strings.EqualFold(s.SubscriptionID, p.SubscriptionID) &&
		(s.ResourceGroup == "" || equalFold(s.ResourceGroup, p.ResourceGroup)) &&
		(s.Pool == "" || strings.EqualFold(s.Pool, p.Name))
}

// String is the scope's ARM id.
func (s Scope) String() string {
	id := "/subscriptions/" + s.SubscriptionID
	if s.ResourceGroup != "" {
		id += "/resourceGroups/" + s.ResourceGroup
	}
	if s.Pool != "" {
		return s.pool().String()
	}
	return id
}

func (s Scope) pool() PoolID { return PoolID{s.SubscriptionID, s.ResourceGroup, s.Pool} }

// Scope is the pool as a scope.
func (p PoolID) Scope() Scope { return Scope{p.SubscriptionID, p.ResourceGroup, p.Name} }
