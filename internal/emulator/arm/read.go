package arm

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The types of bodies have the shape of the provider's specification, 2021-10-01 and later.
type (
	connectionBody struct {
		ID         string               `json:"id"`
		Name       string               `json:"name"`
		Type       string               `json:"type"`
		Location   string               `json:"location"`
		SKU        sku                  `json:"sku"`
		ETag       string               `json:"etag"`
		Properties connectionProperties `json:"properties"`
	}
	connectionItem struct {
		ID         string               `json:"id"`
		ETag       string               `json:"etag"`
		Properties connectionProperties `json:"properties"`
	}
	connectionProperties struct {
		PrivateEndpoint   *privateEndpoint `json:"privateEndpoint,omitzero"`
		LinkState         linkState        `json:"privateLinkServiceConnectionState"`
		ProvisioningState string           `json:"provisioningState"`
	}
	privateEndpoint struct {
		ID string `json:"id"`
	}
	linkState struct {
		Status          string `json:"status"`
		ActionsRequired string `json:"actionsRequired"`
	}
	sku struct {
		Family string `json:"family"`
		Name   string `json:"name"`
	}
	poolBody struct {
		ID         string            `json:"id"`
		Name       string            `json:"name"`
		Type       string            `json:"type"`
		Location   string            `json:"location"`
		Tags       map[string]string `json:"tags,omitzero"`
		SKU        sku               `json:"sku"`
		Properties poolProperties    `json:"properties"`
	}
	poolProperties struct {
		HSMURI              string           `json:"hsmUri"`
		PublicNetworkAccess string           `json:"publicNetworkAccess"`
		ProvisioningState   string           `json:"provisioningState"`
		EnableSoftDelete    bool             `json:"enableSoftDelete"`
		Connections         []connectionItem `json:"privateEndpointConnections,omitempty"`
	}
	listBody struct {
		Value    []any  `json:"value"`
		NextLink string `json:"nextLink,omitzero"`
	}
)

var standardSKU = sku{Family: "B", Name: "Standard_B1"}

func (s *Simulator) getConnection(q request) *reply {
	found, refused := s.findConnection(q)
	if refused != nil {
		return refused
	}
	if found == nil {
		return notFound("managedHSMs/"+q.target.pool+"/privateEndpointConnections/"+q.target.connection, q.target.group)
	}
	answer := jsonReply(http.StatusOK, found.body())
	// An operation without a URL cannot be polled, so its progress is counted in reads of the connection.
	if running := found.operation; running != nil && running.Header == HeaderNone {
		running.seen++
	}
	return answer
}

func (s *Simulator) getPool(q request) *reply {
	if refused := s.findScope(q.target); refused != nil {
		return refused
	}
	found := s.pools[q.target.poolKey()]
	if found == nil {
		return notFound("managedHSMs/"+q.target.pool, q.target.group)
	}
	return jsonReply(http.StatusOK, s.poolBody(found, q))
}

func (s *Simulator) listConnections(q request) *reply {
	parent, refused := s.findParent(q)
	if refused != nil {
		return refused
	}
	var names []string
	for name := range parent.connections {
		if s.present(parent, name, q.now) != nil {
			names = append(names, name)
		}
	}
	return s.page(q, names, func(name string) any { return parent.connections[name].body() })
}

func (s *Simulator) listPools(q request) *reply {
	if refused := s.findScope(q.target); refused != nil {
		return refused
	}
	scope := q.target.subscriptionKey() + "/"
	if q.target.kind == groupPools {
		scope = q.target.groupKey() + "/"
	}
	var ids []string
	for id := range s.pools {
		if strings.HasPrefix(id, scope) && !s.pools[id].denies(actionPool) {
			ids = append(ids, id)
		}
	}
	return s.page(q, ids, func(id string) any { return s.poolBody(s.pools[id], q) })
}

// page answers with the items whose keys follow the skip token. A token names the last key of its page rather than a
// position, so that a deletion between two pages hides nothing.
func (s *Simulator) page(q request, keys []string, item func(key string) any) *reply {
	size := s.options.PageSize
	if size <= 0 {
		size = 100
	}
	if text := q.query.Get("$top"); text != "" {
		top, err := strconv.Atoi(text)
		if err != nil || top < 1 {
			return refuse(http.StatusBadRequest, "BadRequest", "The value '%s' of $top is not a positive integer.", text)
		}
		size = min(size, top)
	}
	after, err := base64.RawURLEncoding.DecodeString(q.query.Get("$skiptoken"))
	if err != nil {
		return refuse(http.StatusBadRequest, "BadRequest", "The value of $skiptoken was not issued here.")
	}
	slices.Sort(keys)
	keys = slices.DeleteFunc(keys, func(key string) bool { return key <= string(after) })
	body := listBody{Value: []any{}}
	if len(keys) > size {
		keys = keys[:size]
		next := maps.Clone(q.query)
		next.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(keys[size-1])))
		body.NextLink = q.base + q.URL.EscapedPath() + "?" + next.Encode()
	}
	for _, key := range keys {
		body.Value = append(body.Value, item(key))
	}
	return jsonReply(http.StatusOK, body)
}

func (c *connection) body() connectionBody {
	return connectionBody{
		ID:         c.id,
		Name:       c.Name,
		Type:       "Microsoft.KeyVault/managedHSMs/privateEndpointConnections",
		Location:   c.pool.Location,
		SKU:        standardSKU,
		ETag:       c.etag,
		Properties: c.properties(),
	}
}

func (c *connection) properties() connectionProperties {
	properties := connectionProperties{
		LinkState:         linkState{Status: c.Status, ActionsRequired: "None"},
		ProvisioningState: c.ProvisioningState,
	}
	if c.operation != nil {
		properties.ProvisioningState = "Deleting"
	}
	if c.PrivateEndpointID != "" {
		properties.PrivateEndpoint = &privateEndpoint{ID: c.PrivateEndpointID}
	}
	return properties
}

func (s *Simulator) poolBody(p *pool, q request) poolBody {
	var items []connectionItem
	for _, name := range slices.Sorted(maps.Keys(p.connections)) {
		if c := s.present(p, name, q.now); c != nil {
			items = append(items, connectionItem{ID: c.id, ETag: c.etag, Properties: c.properties()})
		}
	}
	return poolBody{
		ID:       p.ID,
		Name:     p.name,
		Type:     "Microsoft.KeyVault/managedHSMs",
		Location: p.Location,
		Tags:     p.Tags,
		SKU:      standardSKU,
		Properties: poolProperties{
			HSMURI:              "https://" + p.name + ".managedhsm.azure.net/",
			PublicNetworkAccess: p.PublicNetworkAccess,
			ProvisioningState:   "Succeeded",
			EnableSoftDelete:    true,
			Connections:         items,
		},
	}
}

func notFound(resource, group string) *reply {
	return refuse(http.StatusNotFound, "ResourceNotFound", "The Resource 'Microsoft.KeyVault/%s' under resource group '%s' was not found.", resource, group)
}
