package deletion

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// The actions that roles must name for what a Client asks. deploy/role.json has them.
const (
	ActionReadPools       = poolType + "/read"
	ActionReadConnections = connectionType + "/read"
	ActionDelete          = connectionType + "/delete"
	ActionFollow          = "Microsoft.KeyVault/locations/managedHsmOperationResults/read"
)

// A Permission is what one role lets the caller do: its actions, but for those that it takes out again. Both may have wildcards.
type Permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// Allows tells whether any of the permissions lets the caller do this. What one role takes out another may allow.
func Allows(permissions []Permission, action string) bool {
	named := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(strings.ToLower(pattern), strings.ToLower(action)) })
	}
	return slices.ContainsFunc(permissions, func(p Permission) bool { return named(p.Actions) && !named(p.NotActions) })
}

// matches takes a star for any text, slashes included.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	text, ok := strings.CutPrefix(text, parts[0])
	if len(parts) == 1 || !ok {
		return ok && text == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		_, after, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = after
	}
	return strings.HasSuffix(text, parts[last])
}

// permissionVersion is Microsoft.Authorization's.
const permissionVersion = "2022-04-01"

// Permissions asks what the caller's roles let it do with a pool: Present, or why that is not known. Locks, policies and deny
// assignments are not in the answer.
func (c *Client) Permissions(ctx context.Context, pool PoolID) ([]Permission, Outcome, error) {
	var all []Permission
	total := Outcome{Kind: Present}
	next := c.endpoint + escaped(pool.String()) + "/providers/Microsoft.Authorization/permissions?api-version=" + permissionVersion
	for n := 0; next != ""; n++ {
		if n == mostPages {
			return nil, strange(fmt.Errorf("a list of ARM has more than %d pages", mostPages)).after(total), nil
		}
		var raw *http.Response
		out, err := c.ask(policy.WithCaptureResponse(ctx, &raw), http.MethodGet, next, askRead)
		total = out.after(total)
		if err != nil || out.Kind != Present {
			return nil, total, err
		}
		var page struct {
			Value    []Permission `json:"value"`
			NextLink string       `json:"nextLink"`
		}
		body, _ := runtime.Payload(raw) // azcore has downloaded it already
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, strange(fmt.Errorf("ARM's answer cannot be read: %w", err)).after(total), nil
		}
		all, next = append(all, page.Value...), page.NextLink
	}
	return all, total, nil
}

// Greet asks ARM for the subscriptions that the caller sees. Whoever has a token that ARM takes may ask that, without any role; what
// the answer lists does not matter.
func (c *Client) Greet(ctx context.Context) (Outcome, error) {
	return c.ask(ctx, http.MethodGet, c.endpoint+"/subscriptions?api-version=2022-12-01", askRead)
}
