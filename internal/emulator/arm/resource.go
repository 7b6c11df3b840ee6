package arm

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Pool is a Managed HSM pool to add.
type Pool struct {
	// ID is the ARM id, whose casing answers repeat.
	ID string `json:"id"`
	// Location defaults to westeurope.
	Location string `json:"location,omitzero"`
	// PublicNetworkAccess is Enabled (the default) or Disabled.
	PublicNetworkAccess string            `json:"publicNetworkAccess,omitzero"`
	Tags                map[string]string `json:"tags,omitzero"`
	// Conflicts makes deletes answer 409 ConflictError while another operation runs in the pool.
	Conflicts bool `json:"conflicts,omitzero"`
	// Denied are actions, as roles name them, that the caller has no right to; its permissions on the pool tell so too.
	Denied      []string     `json:"denied,omitzero"`
	Connections []Connection `json:"connections,omitzero"`
}

// Connection is a private endpoint connection to add.
type Connection struct {
	Name string `json:"name"`
	// Status is the link state: Approved (the default), Pending, Rejected or Disconnected.
	Status string `json:"status,omitzero"`
	// PrivateEndpointID is the ARM id of a Microsoft.Network/privateEndpoints; answers leave it out when it is empty.
	PrivateEndpointID string `json:"privateEndpointId,omitzero"`
	// ProvisioningState defaults to Succeeded.
	ProvisioningState string `json:"provisioningState,omitzero"`
	// Script is how the connection answers its deletes.
	Script Script `json:"script,omitzero"`
}

type pool struct {
	Pool
	name        string
	connections map[string]*connection // by lower-case name
}

type connection struct {
	Connection
	pool      *pool
	id        string
	etag      string
	answered  int        // answers of the script already given
	operation *operation // the one that runs; nil when none does
	gone      bool       // kept so that AutoCreate does not bring it back
}

// AddPool adds a pool with its connections. It is all or nothing.
func (s *Simulator) AddPool(p Pool) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("arm: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools[strings.ToLower(p.ID)] != nil {
		return fmt.Errorf("arm: pool %s: exists already", p.ID)
	}
	s.addPool(p)
	return nil
}

// AddConnection adds a connection to a pool. The name of a deleted connection may be used again.
func (s *Simulator) AddConnection(poolID string, c Connection) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("arm: pool %s: %w", poolID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := s.pools[strings.ToLower(poolID)]
	if parent == nil {
		return fmt.Errorf("arm: pool %s: does not exist; add it first", poolID)
	}
	if s.present(parent, c.Name, time.Now()) != nil {
		return fmt.Errorf("arm: pool %s: connection %q: exists already", poolID, c.Name)
	}
	s.addConnection(parent, c)
	return nil
}

// Exists tells whether the connection with this ARM id is there, Deleting included. It creates nothing.
func (s *Simulator) Exists(connectionID string) bool {
	target := parseRoute(connectionID)
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := s.pools[target.poolKey()]
	return parent != nil && s.present(parent, target.connection, time.Now()) != nil
}

func (p Pool) validate() error {
	if target := parseRoute(p.ID); target.kind != poolItself || !target.validPool() || !strings.EqualFold(p.ID, target.poolID()) {
		return fmt.Errorf("pool %q: id: want /subscriptions/<guid>/resourceGroups/<group>/providers/Microsoft.KeyVault/managedHSMs/<3 to 24 letters, digits and hyphens>", p.ID)
	}
	if !slices.Contains([]string{"", "Enabled", "Disabled"}, p.PublicNetworkAccess) {
		return fmt.Errorf("pool %s: publicNetworkAccess %q: want Enabled or Disabled", p.ID, p.PublicNetworkAccess)
	}
	if strings.ContainsAny(p.Location, "/?#% ") {
		return fmt.Errorf("pool %s: location %q: want a region's short name such as westeurope", p.ID, p.Location)
	}
	if err := p.validateRights(); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, c := range p.Connections {
		if err := c.validate(); err != nil {
			return fmt.Errorf("pool %s: %w", p.ID, err)
		}
		key := strings.ToLower(c.Name)
		if names[key] {
			return fmt.Errorf("pool %s: connection %q: name: is used twice", p.ID, c.Name)
		}
		names[key] = true
	}
	return nil
}

func (c Connection) validate() error {
	switch {
	case !connectionName.MatchString(c.Name):
		return fmt.Errorf("connection %q: name: want 1 to 128 letters, digits, hyphens, underscores and dots, not beginning with a dot", c.Name)
	case !slices.Contains([]string{"", "Approved", "Pending", "Rejected", "Disconnected"}, c.Status):
		return fmt.Errorf("connection %q: status %q: want Approved, Pending, Rejected or Disconnected", c.Name, c.Status)
	case c.PrivateEndpointID != "" && !endpointID.MatchString(c.PrivateEndpointID):
		return fmt.Errorf("connection %q: privateEndpointId %q: want the ARM id of a Microsoft.Network/privateEndpoints", c.Name, c.PrivateEndpointID)
	}
	if err := c.Script.validate(); err != nil {
		return fmt.Errorf("connection %q: script: %w", c.Name, err)
	}
	return nil
}

func (s *Simulator) addPool(p Pool) *pool {
	p.Location = cmp.Or(p.Location, "westeurope")
	p.PublicNetworkAccess = cmp.Or(p.PublicNetworkAccess, "Enabled")
	target := parseRoute(p.ID)
	added := &pool{Pool: p, name: target.pool, connections: map[string]*connection{}}
	s.pools[target.poolKey()] = added
	s.scopes[target.subscriptionKey()] = true
	s.scopes[target.groupKey()] = true
	for _, c := range p.Connections {
		s.addConnection(added, c)
	}
	return added
}

func (s *Simulator) addConnection(parent *pool, c Connection) *connection {
	c.Status = cmp.Or(c.Status, "Approved")
	c.ProvisioningState = cmp.Or(c.ProvisioningState, "Succeeded")
	added := &connection{Connection: c, pool: parent, id: parent.ID + "/privateEndpointConnections/" + c.Name, etag: s.guid()}
	parent.connections[strings.ToLower(c.Name)] = added
	return added
}

// present returns nil when the pool has no such connection any more.
func (s *Simulator) present(parent *pool, name string, now time.Time) *connection {
	found := parent.connections[strings.ToLower(name)]
	if found == nil {
		return nil
	}
	s.settle(found, now)
	if found.gone {
		return nil
	}
	return found
}

// findScope refuses when the subscription, or the group that the route names, does not exist.
func (s *Simulator) findScope(target route) *reply {
	if !s.scopes[target.subscriptionKey()] {
		return refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", target.subscription)
	}
	if target.group != "" && !s.scopes[target.groupKey()] {
		return refuse(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", target.group)
	}
	return nil
}

// findParent returns the pool of a route to a connection, or the refusal.
func (s *Simulator) findParent(q request) (*pool, *reply) {
	if parent := s.pools[q.target.poolKey()]; parent != nil {
		return parent, nil
	}
	if refused := s.findScope(q.target); refused != nil {
		return nil, refused
	}
	return nil, refuse(http.StatusNotFound, "ParentResourceNotFound",
		"Failed to perform '%s' on resource(s) of type 'managedHSMs/privateEndpointConnections', because the parent resource '%s' could not be found.",
		verb(q.Method), q.target.poolID())
}

// findConnection returns nil without a refusal when only the connection is missing.
func (s *Simulator) findConnection(q request) (*connection, *reply) {
	s.autoCreate(q.target)
	parent, refused := s.findParent(q)
	if refused != nil {
		return nil, refused
	}
	return s.present(parent, q.target.connection, q.now), nil
}

func (s *Simulator) autoCreate(target route) {
	if !s.options.AutoCreate || !target.validPool() || !connectionName.MatchString(target.connection) {
		return
	}
	parent := s.pools[target.poolKey()]
	if parent == nil {
		parent = s.addPool(Pool{ID: target.poolID()})
	}
	if parent.connections[strings.ToLower(target.connection)] == nil {
		s.addConnection(parent, Connection{Name: target.connection})
	}
}

// verb is the last part of ARM's name for the action.
func verb(method string) string {
	if method == http.MethodGet {
		return "read"
	}
	return strings.ToLower(method)
}
