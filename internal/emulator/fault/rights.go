package fault

import (
	"net/http"
	"slices"
	"strings"
)

// Rights are all that an identity was given. Whatever else is asked for is refused, as the services refuse it.
type Rights struct {
	Actions       []string // of roles at ARM
	Receive, Send []string // paths of entities at Service Bus: of Data Receiver and Data Sender
}

// Then refuses what nobody has a right to, and leaves the rest to another injector.
func (r Rights) Then(next Injector) Injector {
	return func(op Operation) Fault {
		switch {
		case op.Service == ServiceBus && !r.allowsLink(op):
			return Fault{Kind: Refused, Condition: "amqp:unauthorized-access"}
		case op.Service == ARM && !r.allowsRequest(op):
			return Fault{Kind: Refused, Status: http.StatusForbidden}
		}
		return next.For(op)
	}
}

// allowsLink knows that a right to an entity is one to its dead letters, and either right opens the way to its $management, where each
// operation needs its own. What comes over a link was allowed with it.
func (r Rights) allowsLink(op Operation) bool {
	const management, dead = "/$management", "/$deadletterqueue"
	path := strings.ToLower(strings.Trim(op.Target, "/"))
	entity := strings.TrimSuffix(strings.TrimSuffix(path, management), dead)
	receives, sends := among(r.Receive, entity), among(r.Send, entity)
	switch {
	case path == "$cbs" || op.Name == "put-token" || op.Name == "send" || op.Name == "settle":
		return true
	case op.Name == "attach" && strings.HasSuffix(path, management):
		return receives || sends
	case op.Name == "attach" && op.Sends:
		return sends
	case strings.HasSuffix(op.Name, "schedule-message") || strings.HasSuffix(op.Name, "cancel-scheduled-message"):
		return sends
	}
	return receives
}

// allowsRequest finds the action that a role must name for a request. To list one's subscriptions takes none.
func (r Rights) allowsRequest(op Operation) bool {
	path, _, _ := strings.Cut(op.Target, "?")
	if strings.Trim(path, "/") == "subscriptions" {
		return true
	}
	action, ok := actionOf(op.Name, strings.ToLower(path))
	return ok && among(r.Actions, strings.ToLower(action))
}

func actionOf(method, path string) (string, bool) {
	const provider = "Microsoft.KeyVault/"
	switch {
	case method == http.MethodDelete && strings.Contains(path, "/privateendpointconnections/"):
		return provider + "managedHSMs/privateEndpointConnections/delete", true
	case method != http.MethodGet:
		return "", false
	case strings.HasSuffix(path, "/providers/microsoft.authorization/permissions"):
		return "Microsoft.Authorization/permissions/read", true
	case strings.Contains(path, "/privateendpointconnections"):
		return provider + "managedHSMs/privateEndpointConnections/read", true
	case strings.Contains(path, "/managedhsmoperationresults/"):
		return provider + "locations/managedHsmOperationResults/read", true
	case strings.Contains(path, "/managedhsms"):
		return provider + "managedHSMs/read", true
	}
	return "", false
}

func among(names []string, lower string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.ToLower(name) == lower })
}
