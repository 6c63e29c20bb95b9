"""An example consumer, `consumer.py NAME NAMESPACE`: claims what is open, acts on its scope whenever that changes."""

import sys
from datetime import UTC, datetime

from kubernetes import client, config, watch

KIND = {"group": "remediation.stormfold.io", "version": "v1alpha1", "plural": "remediationrequests"}


def remediate(spec):
    found = spec["stormAggregation"]["affectedResources"] if spec["type"] == "Storm" else [spec["targetResource"]]
    print(spec["signal"]["name"], *(f"{one['kind']}/{one['name']}" for one in found), flush=True)


def say(api, me, rr, conditions, keys):
    meta = {key: rr["metadata"][key] for key in keys}
    status = {"claim": {"by": me}, "conditions": conditions}
    body = {"apiVersion": rr["apiVersion"], "kind": rr["kind"], "metadata": meta, "status": status}
    how = {"namespace": namespace, "field_manager": me, "_content_type": "application/apply-patch+yaml"}
    try:  # 409: another field manager holds the claim, or the object is newer than this event
        api.patch_namespaced_custom_object_status(**KIND, **how, name=meta["name"], body=body)
        return True
    except client.ApiException as error:
        if error.status not in (404, 409, 422):
            raise


config.load_config()
api, (me, namespace) = client.CustomObjectsApi(), sys.argv[1:]
for event in watch.Watch().stream(api.list_namespaced_custom_object, **KIND, namespace=namespace):
    rr, status = event["object"], event["object"].get("status", {})
    done = [one for one in status.get("conditions", []) if one["type"] == "Remediated"]
    generation, over = rr["metadata"]["generation"], event["type"] == "DELETED" or status.get("phase") != "Active"
    over = over or generation in [one["observedGeneration"] for one in done]
    if not over and say(api, me, rr, done, ("name", "uid", "resourceVersion")):
        remediate(rr["spec"])
        new = {"type": "Remediated", "status": "True", "reason": "Restarted", "message": f"by {me}"}
        new |= {"observedGeneration": generation, "lastTransitionTime": datetime.now(UTC).isoformat(timespec="seconds")}
        say(api, me, rr, [new], ("name", "uid"))
