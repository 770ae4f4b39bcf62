package producer

// ruleAccesses are the rows of the routes of events, rules and secrets.
func ruleAccesses() []access {
	const rules, secrets = "/v1/rules", "/v1/secrets"
	const notification = `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"ones"},"object":{"key":"k"}}}]}`
	rule := func(method, rest string, need Role, ok int) access {
		return access{
			method: method, route: rules + "/{name}" + rest, need: need, own: rules + "/mine" + rest, ok: ok,
			others: []string{rules + "/theirs" + rest}, missing: rules + "/none" + rest,
		}
	}
	return []access{
		{method: "POST", route: "/v1/events/s3", need: RoleCopy, body: notification, own: "/v1/events/s3", ok: 202},
		{
			method: "POST", route: "/v1/events/cloudevents", need: RoleCopy, own: "/v1/events/cloudevents", ok: 202,
			header: []string{"Content-Type", "application/cloudevents+json"}, body: `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`,
		},
		{
			method: "OPTIONS", route: "/v1/events/cloudevents", need: RoleCopy, own: "/v1/events/cloudevents", ok: 200,
			header: []string{"WebHook-Request-Origin", "sender.test"},
		},
		{method: "GET", route: rules, need: RoleRead, own: rules, ok: 200},
		{method: "POST", route: rules, need: RoleAdmin, body: ruleText("theirs", "bucket-b"), header: asYAML, own: rules, ok: 200}, // a name is the org's own
		{method: "DELETE", route: rules + "/{name}", need: RoleAdmin, own: rules + "/theirs", ok: 204},                             // it is the own one
		{method: "POST", route: rules + "/test", need: RoleRead, body: `{"event":` + notification + `}`, own: rules + "/test", ok: 200},
		rule("GET", "", RoleRead, 200),
		rule("POST", "/sweep", RoleCopy, 200),
		rule("DELETE", "", RoleAdmin, 204),
		{method: "GET", route: secrets, need: RoleRead, own: secrets, ok: 200},
		{method: "PUT", route: secrets + "/{name}", need: RoleAdmin, body: `{"value":"v"}`, own: secrets + "/token", ok: 200},
		{
			method: "DELETE", route: secrets + "/{name}", need: RoleAdmin, own: secrets + "/token", ok: 204,
			others: []string{secrets + "/theirs"}, missing: secrets + "/none",
		},
	}
}

// takeRules gives each org a rule, and org one secrets.
func (x *tenants) takeRules() {
	x.Helper()
	newRules(x.stage)
	x.server.events = x.server.triggers
	x.call("one/admin", "POST", "/v1/rules", ruleText("theirs", "ones")+"# "+marker+"\n", asYAML...).want(200, "")
	x.call("two/admin", "POST", "/v1/rules", ruleText("mine", "twos"), asYAML...).want(200, "")
	for _, name := range []string{"theirs", marker} {
		x.call("one/admin", "PUT", "/v1/secrets/"+name, `{"value":"`+marker+`"}`).want(200, "")
	}
}

// rulesUnharmed looks at the rule and the secrets of org one.
func (x *tenants) rulesUnharmed() {
	x.Helper()
	got := decode[ruleList](x.call("one/read", "GET", "/v1/rules", "").want(200, ""))
	if len(got.Rules) != 1 || got.Rules[0].Name != "theirs" || got.Rules[0].Version != 1 || got.Rules[0].Counts.Matched != 0 || got.Rules[0].Sweep != nil {
		x.Errorf("the rules of org one are %+v", got.Rules)
	}
	if list := decode[secretList](x.call("one/read", "GET", "/v1/secrets", "").want(200, "")); len(list.Secrets) != 2 {
		x.Errorf("the secrets of org one are %+v", list.Secrets)
	}
}
