package deletion

import (
	"strings"
	"testing"
)

func TestScopeContains(t *testing.T) {
	const other = "/subscriptions/11111111-1111-1111-1111-111111111111"
	tests := []struct {
		scope, pool string
		want        bool
	}{
		{subscription, pool, true},
		{group, pool, true},
		{pool, pool, true},
		{strings.ToUpper(subscription), pool, true},
		{strings.ToUpper(group), pool, true},
		{strings.ToUpper(pool), strings.ToLower(pool), true},
		{subscription + "/resourceGroups/größe", strings.Replace(pool, "sample-group", "GRÖSSE", 1), false},
		{subscription + "/resourceGroups/größe", strings.Replace(pool, "sample-group", "GRÖßE", 1), true},

		{subscription + "/resourceGroups/kv", strings.Replace(pool, "sample-group", "\u212Av", 1), false},
		{subscription + "/resourceGroups/hsm", strings.Replace(pool, "sample-group", "h\u017Fm", 1), false},
		{other, pool, false},
		{strings.Replace(group, subscription, other, 1), pool, false},
		{strings.Replace(pool, subscription, other, 1), pool, false},
		{subscription + "/resourceGroups/app", strings.Replace(pool, "sample-group", "app2", 1), false},
		{subscription + "/resourceGroups/app2", strings.Replace(pool, "sample-group", "app", 1), false},
		{subscription + "/resourceGroups/app", strings.Replace(pool, "sample-group", "app", 1), true},
		{pool, pool + "2", false},
		{pool + "2", pool, false},
		{strings.Replace(pool, "sample-group", "other-group", 1), pool, false},
	}
	for _, tt := range tests {
		scope := must(t, ParseScope, tt.scope)
		if got := scope.Contains(must(t, ParsePoolID, tt.pool)); got != tt.want {
			t.Errorf("%s contains %s: %t, want %t", tt.scope, tt.pool, got, tt.want)
		}
	}
}

func TestHostileScopes(t *testing.T) {
	const notAScope = "is not the ARM id of a subscription, a resource group or a managed HSM pool"
	tests := []struct {
		name, id string
		want     string // in the error
	}{
		{"empty, which would allow everything", "", notAScope},
		{"a slash", "/", notAScope},
		{"a star", "*", notAScope},
		{"no subscription", "/subscriptions", notAScope},
		{"an empty subscription", "/subscriptions/", `subscription id "" is not a GUID`},
		{"a subscription's name", "/subscriptions/production", "is not a GUID"},
		{"a bare GUID", "00000000-0000-0000-0000-000000000000", notAScope},
		{"a subscription and a trailing slash", subscription + "/", notAScope},
		{"a URL", "https://management.azure.com" + subscription, notAScope},
		{"white space", subscription + " ", "is not a GUID"},
		{"a management group", "/providers/Microsoft.Management/managementGroups/mg", notAScope},
		{"resourceGroups without a name", subscription + "/resourceGroups", notAScope},
		{"an empty resource group", subscription + "/resourceGroups/", "resource group"},
		{"a resource group that climbs", subscription + "/resourceGroups/..", "resource group"},
		{"a wildcard group", subscription + "/resourceGroups/app*", "resource group"},
		{"a resource group and a trailing slash", group + "/", "is not an ARM resource id"},
		{"another word for resourceGroups", subscription + "/groups/app", notAScope},
		{"a provider", group + "/providers/Microsoft.KeyVault", "is not an ARM resource id"},
		{"a vault", group + "/providers/Microsoft.KeyVault/vaults/kv1", "resource type is Microsoft.KeyVault/vaults, expected Microsoft.KeyVault/managedHSMs"},
		{"a connection", connection, "expected Microsoft.KeyVault/managedHSMs"},
		{"a pool's name that is none", pool + "_", "managed HSM name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			scope, err := ParseScope(tt.id)
			if err == nil {
				t.Fatalf("%q is accepted as %+v", tt.id, scope)
			}
			checkError(t, err, tt.want)
		})
	}
}
