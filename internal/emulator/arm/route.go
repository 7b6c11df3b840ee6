package arm

import (
	"net/url"
	"regexp"
	"strings"
)

// The naming rules of Azure; that of a connection's name is not published and is this package's own.
var (
	subscriptionID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	groupName      = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)
	poolName       = regexp.MustCompile(`^[a-zA-Z0-9-]{3,24}$`)
	connectionName = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,127}$`)
	endpointID     = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/privateEndpoints/[^/]+$`)
)

// kind is what a path names.
type kind int

const (
	unknown kind = iota
	subscriptionPools
	groupPools
	poolItself
	poolConnections
	connectionItself
	poolPermissions
	operationResult
)

// route is a path taken apart, its segments unescaped and in the caller's casing.
type route struct {
	kind                                  kind
	subscription, group, pool, connection string
	operation                             string
}

const (
	groupPath = "/subscriptions/{subscription}/resourceGroups/{group}"
	poolPath  = groupPath + "/providers/Microsoft.KeyVault/managedHSMs/{pool}"
)

var patterns = []struct {
	kind     kind
	segments []string
}{
	{subscriptionPools, strings.Split("/subscriptions/{subscription}/providers/Microsoft.KeyVault/managedHSMs", "/")},
	{groupPools, strings.Split(groupPath+"/providers/Microsoft.KeyVault/managedHSMs", "/")},
	{poolItself, strings.Split(poolPath, "/")},
	{poolConnections, strings.Split(poolPath+"/privateEndpointConnections", "/")},
	{connectionItself, strings.Split(poolPath+"/privateEndpointConnections/{connection}", "/")},
	{poolPermissions, strings.Split(poolPath+"/providers/Microsoft.Authorization/permissions", "/")},
	{operationResult, strings.Split("/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}/managedHsmOperationResults/{operation}", "/")},
}

// parseRoute takes an escaped path, so that an escaped slash stays within its segment.
func parseRoute(path string) route {
	segments := strings.Split(path, "/")
	for _, pattern := range patterns {
		if found, ok := match(pattern.segments, segments); ok {
			found.kind = pattern.kind
			return found
		}
	}
	return route{}
}

func match(pattern, segments []string) (route, bool) {
	var found route
	if len(pattern) != len(segments) {
		return found, false
	}
	for i, want := range pattern {
		segment, err := url.PathUnescape(segments[i])
		if err != nil {
			return found, false
		}
		if !strings.HasPrefix(want, "{") {
			if !strings.EqualFold(want, segment) {
				return found, false
			}
			continue
		}
		if segment == "" {
			return found, false
		}
		switch want {
		case "{subscription}":
			found.subscription = segment
		case "{group}":
			found.group = segment
		case "{pool}":
			found.pool = segment
		case "{connection}":
			found.connection = segment
		case "{operation}":
			found.operation = segment
		}
	}
	return found, true
}

func (r route) subscriptionKey() string {
	return strings.ToLower("/subscriptions/" + r.subscription)
}

func (r route) groupKey() string {
	return r.subscriptionKey() + strings.ToLower("/resourceGroups/"+r.group)
}

// poolID has the casing of the specification for what is not a name.
func (r route) poolID() string {
	return "/subscriptions/" + r.subscription + "/resourceGroups/" + r.group + "/providers/Microsoft.KeyVault/managedHSMs/" + r.pool
}

func (r route) poolKey() string { return strings.ToLower(r.poolID()) }

// connectionKey is empty when the route names no connection.
func (r route) connectionKey() string {
	if r.kind != connectionItself {
		return ""
	}
	return r.poolKey() + strings.ToLower("/privateEndpointConnections/"+r.connection)
}

// validPool tells whether the names down to the pool keep Azure's rules.
func (r route) validPool() bool {
	return subscriptionID.MatchString(r.subscription) && groupName.MatchString(r.group) && poolName.MatchString(r.pool)
}
