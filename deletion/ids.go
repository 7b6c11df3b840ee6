package deletion

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A PoolID names a managed HSM pool.
type PoolID struct {
	SubscriptionID string // a GUID
	ResourceGroup  string
	Name           string
}

// A ConnectionID names a private endpoint connection of a managed HSM pool.
type ConnectionID struct {
	Pool PoolID
	Name string
}

// An EndpointID names a private endpoint, the consumer's side of a connection.
type EndpointID struct {
	SubscriptionID string // a GUID
	ResourceGroup  string
	Name           string
}

// The resource types as documentation spells them; ARM compares them without regard to case.
const (
	poolType       = "Microsoft.KeyVault/managedHSMs"
	connectionType = poolType + "/privateEndpointConnections"
	endpointType   = "Microsoft.Network/privateEndpoints"
)

// ParseConnectionID reads the ARM id of a connection:
// /subscriptions/{guid}/resourceGroups/{group}/providers/Microsoft.KeyVault/managedHSMs/{pool}/privateEndpointConnections/{name}.
// Every name is checked against Azure's rules.
func ParseConnectionID(id string) (ConnectionID, error) {
	r, err := parseResource(id, connectionType, poolName, connectionName)
	if err != nil {
		return ConnectionID{}, err
	}
	return ConnectionID{Pool: PoolID{r.subscription, r.group, r.names[0]}, Name: r.names[1]}, nil
}

// ParsePoolID reads the ARM id of a managed HSM pool.
func ParsePoolID(id string) (PoolID, error) {
	r, err := parseResource(id, poolType, poolName)
	if err != nil {
		return PoolID{}, err
	}
	return PoolID{r.subscription, r.group, r.names[0]}, nil
}

// ParseEndpointID reads the ARM id of a private endpoint.
func ParseEndpointID(id string) (EndpointID, error) {
	r, err := parseResource(id, endpointType, endpointName)
	if err != nil {
		return EndpointID{}, err
	}
	return EndpointID{r.subscription, r.group, r.names[0]}, nil
}

func (p PoolID) String() string {
	return resourceID(p.SubscriptionID, p.ResourceGroup, poolType, p.Name)
}

func (c ConnectionID) String() string {
	return c.Pool.String() + "/privateEndpointConnections/" + c.Name
}

func (e EndpointID) String() string {
	return resourceID(e.SubscriptionID, e.ResourceGroup, endpointType, e.Name)
}

// SameID tells whether two ARM ids name the same resource. Case does not count, because ARM answers in whatever case it likes.
func SameID(a, b string) bool { return equalFold(a, b) }

// Compare orders ids as text, without regard to case: it is 0 for two names of one connection.
func (c ConnectionID) Compare(other ConnectionID) int {
	return strings.Compare(strings.ToLower(c.String()), strings.ToLower(other.String()))
}

// path is the connection's place in a URL.
func (c ConnectionID) path() string { return escaped(c.String()) }

// escaped makes an id the path of a URL. The names were checked, so escaping only concerns letters beyond ASCII.
func escaped(id string) string {
	segments := strings.Split(id, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return strings.Join(segments, "/")
}

func resourceID(subscription, group, resourceType, name string) string {
	return "/subscriptions/" + subscription + "/resourceGroups/" + group + "/providers/" + resourceType + "/" + name
}

// A rule is what Azure allows for one kind of name.
type rule struct {
	of      string
	allowed *regexp.Regexp
	longest int // in characters
	words   string
}

// Sources: Azure's naming rules for resources; for connection names no specification has a pattern or a length, so this
// is what has been seen and a cap.
var (
	subscriptionName = rule{"subscription id", regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`), 36, "a GUID"}
	groupName        = rule{"resource group", regexp.MustCompile(`^[\p{L}\p{N}_().-]*[\p{L}\p{N}_()-]$`), 90, "1 to 90 letters, digits, '_', '-', '.', '(' and ')', not ending in '.'"}
	poolName         = rule{"managed HSM name", regexp.MustCompile(`^[a-zA-Z0-9-]{3,}$`), 24, "3 to 24 letters, digits and '-'"}
	connectionName   = rule{"connection name", regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`), 128, "1 to 128 letters, digits, '-', '_' and '.', beginning with a letter, digit or '_'"}
	endpointName     = rule{"private endpoint name", regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`), 80, "1 to 80 letters, digits, '-', '_' and '.', beginning with a letter or digit"}
)

func (r rule) check(name string) error {
	if utf8.RuneCountInString(name) > r.longest || !r.allowed.MatchString(name) {
		return fmt.Errorf("%s %s is not %s", r.of, quote(name), r.words)
	}
	return nil
}

type resource struct {
	subscription, group string
	names               []string
}

// parseResource takes an id apart that must be of the wanted type, with one rule for each of the type's names.
func parseResource(id, wantType string, rules ...rule) (resource, error) {
	var r resource
	segments := strings.Split(id, "/")
	if len(segments) < 9 || segments[0] != "" || !equalFold(segments[1], "subscriptions") ||
		!equalFold(segments[3], "resourceGroups") || !equalFold(segments[5], "providers") || len(segments)%2 == 0 {
		return r, fmt.Errorf("%s is not an ARM resource id, expected /subscriptions/{id}/resourceGroups/{group}/providers/%s/{name}",
			quote(id), strings.ReplaceAll(wantType, "managedHSMs/", "managedHSMs/{name}/"))
	}
	resourceType := segments[6]
	for i := 7; i < len(segments); i += 2 {
		resourceType += "/" + segments[i]
		r.names = append(r.names, segments[i+1])
	}
	if !equalFold(resourceType, wantType) {
		return r, fmt.Errorf("resource type is %s, expected %s", printable(resourceType), wantType)
	}
	r.subscription, r.group = segments[2], segments[4]
	if err := subscriptionName.check(r.subscription); err != nil {
		return r, err
	}
	if err := groupName.check(r.group); err != nil {
		return r, err
	}
	for i, name := range r.names {
		if err := rules[i].check(name); err != nil {
			return r, err
		}
	}
	return r, nil
}

// equalFold compares without regard to case. Letters that are alike only across lengths in UTF-8 differ:
// strings.EqualFold alone would take the Kelvin sign for a k, and another resource group for an allowed one.
func equalFold(s, t string) bool { return len(s) == len(t) && strings.EqualFold(s, t) }

// quote shows letters beyond ASCII by their numbers: many look like one that was expected.
func quote(s string) string { return fmt.Sprintf("%+q", shorten(s)) }

// printable keeps what an error repeats of its input readable: no control characters, no walls of text.
func printable(s string) string {
	quoted := quote(s)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted[1 : len(quoted)-1])
}

func shorten(s string) string {
	const longest = 200
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}
