package arm

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The actions of the requests that are served here, as roles name them.
const (
	actionPool        = "Microsoft.KeyVault/managedHSMs/read"
	actionConnections = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/read"
	actionDelete      = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete"
	actionResults     = "Microsoft.KeyVault/locations/managedHsmOperationResults/read"
	actionPermissions = "Microsoft.Authorization/permissions/read"
)

var actions = []string{actionPool, actionConnections, actionDelete, actionResults, actionPermissions}

// permissionBody has the shape of Microsoft.Authorization's specification, 2022-04-01.
type permissionBody struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// listPermissions tells what the caller may do with a pool: everything but what the pool's Denied has. Of a pool that is not there
// the service tells what is inherited; that it answers at all then is unverified.
func (s *Simulator) listPermissions(q request) *reply {
	denied := []string{}
	if p := s.pools[q.target.poolKey()]; p != nil && len(p.Denied) > 0 {
		denied = p.Denied
	}
	return jsonReply(http.StatusOK, listBody{Value: []any{permissionBody{[]string{"*"}, denied, []string{}, []string{}}}})
}

// deny refuses what the pool's Denied has. The lists of a subscription's or a group's pools show only those that may be read.
func (s *Simulator) deny(q request) *reply {
	p := s.pools[q.target.poolKey()]
	action := q.action()
	if p == nil || !p.denies(action) {
		return nil
	}
	return refuse(http.StatusForbidden, "AuthorizationFailed",
		"The client does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", action, q.URL.Path)
}

// action is what a role must name for the request; empty where no pool is in its path.
func (q request) action() string {
	switch {
	case q.Method == http.MethodDelete:
		return actionDelete
	case q.target.kind == poolItself:
		return actionPool
	case q.target.kind == poolPermissions:
		return actionPermissions
	case q.target.kind == poolConnections, q.target.kind == connectionItself:
		return actionConnections
	}
	return ""
}

func (p Pool) denies(action string) bool {
	return slices.ContainsFunc(p.Denied, func(denied string) bool { return strings.EqualFold(denied, action) })
}

func (p Pool) validateRights() error {
	for _, denied := range p.Denied {
		if !slices.ContainsFunc(actions, func(known string) bool { return strings.EqualFold(known, denied) }) {
			return fmt.Errorf("pool %s: denied %q: want %s", p.ID, denied, strings.Join(actions, ", "))
		}
	}
	return nil
}
