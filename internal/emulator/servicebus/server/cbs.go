package server

import (
	"net/url"
	"strings"

	"hsmsweep/internal/emulator/servicebus/amqp"
)

// serveCBS takes a token. An unknown entity is refused here already, because a
// client reports it as not found only then, not when the attach is refused.
func (c *conn) serveCBS(req *request) (response, error) {
	if req.operation != "put-token" {
		return response{}, amqp.Errorf(amqp.CondNotImplemented, "operation %q of $cbs is not supported", req.operation)
	}
	audience, _ := amqp.Text(req.properties.Get("name"))
	tokenType, _ := amqp.Text(req.properties.Get("type"))
	token, _ := amqp.Text(req.body)
	if authorize := c.server.options.Authorize; authorize != nil {
		if err := authorize(audience, tokenType, token); err != nil {
			return response{}, amqp.Errorf(amqp.CondUnauthorized, "%v", err)
		}
	}
	path := audiencePath(audience)
	if path != wholeNamespace {
		entity, err := c.server.options.Broker.Entity(path)
		if err != nil {
			return response{}, c.notFound(path)
		}
		path = entity.Path()
	}
	c.authorized[path] = true
	return response{status: 202}, nil
}

// wholeNamespace is the path of a token for all entities.
const wholeNamespace = ""

// audiencePath is the entity that an audience such as
// "amqps://host/queue/$management" is about, or wholeNamespace.
func audiencePath(audience string) string {
	if decoded, err := url.PathUnescape(audience); err == nil {
		audience = decoded
	}
	return strings.TrimSuffix(parseAddress(audience).path, "/")
}
