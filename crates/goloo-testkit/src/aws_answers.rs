//! AWS responses in their documented formats, for the [fault proxy](crate::fault_proxy) to play.

/// A response to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub kind: &'static str,
    /// XML or JSON.
    pub body: String,
}

impl Reply {
    fn xml(status: u16, body: String) -> Self {
        Self { status, kind: "text/xml", body }
    }

    /// The complete response, after which the connection closes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { status, kind, body } = self;
        format!(
            "HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
             x-amzn-RequestId: {REQUEST_ID}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// The response's id in AWS's logs; any value will do.
const REQUEST_ID: &str = "b9b4b068-3a41-11e5-94eb-example";
const CLOUDFORMATION: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";

/// An error response of a service, in the service's own format.
///
/// - CloudFormation, STS, IAM (Query protocol):
///   <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html>
/// - EC2: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-troubleshooting.html>
/// - Route 53: <https://docs.aws.amazon.com/Route53/latest/APIReference/requests-rest-responses.html>
/// - S3: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
/// - SSM (JSON): <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>
pub fn error(service: &str, status: u16, code: &str, message: &str) -> Reply {
    let side = if status < 500 { "Sender" } else { "Receiver" };
    let text = element("Code", code) + &element("Message", message);
    match service {
        "ec2" => Reply::xml(
            status,
            format!(
                "<Response><Errors><Error>{text}</Error></Errors><RequestID>{REQUEST_ID}</RequestID></Response>"
            ),
        ),
        "s3" => Reply::xml(status, format!("<Error>{text}<RequestId>{REQUEST_ID}</RequestId></Error>")),
        "ssm" | "dynamodb" => Reply {
            status,
            kind: "application/x-amz-json-1.1",
            body: serde_json::json!({"__type": code, "message": message}).to_string(),
        },
        other => {
            let xmlns = match other {
                "route53" => "https://route53.amazonaws.com/doc/2013-04-01/",
                "sts" => "https://sts.amazonaws.com/doc/2011-06-15/",
                "iam" => "https://iam.amazonaws.com/doc/2010-05-08/",
                _ => CLOUDFORMATION,
            };
            let error = format!("<Error><Type>{side}</Type>{text}</Error>");
            Reply::xml(
                status,
                format!(
                    r#"<ErrorResponse xmlns="{xmlns}">{error}<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"#
                ),
            )
        }
    }
}

/// A service's internal error; for the sources see [`error`].
pub fn internal_error(service: &str) -> Reply {
    let code = match service {
        "ec2" | "s3" => "InternalError",
        "ssm" | "dynamodb" => "InternalServerError",
        _ => "InternalFailure",
    };
    error(service, 500, code, "The request processing has failed because of an unknown error.")
}

/// A service's response to too many requests; for the sources see [`error`].
pub fn throttled(service: &str) -> Reply {
    match service {
        "ec2" => error(service, 503, "RequestLimitExceeded", "Request limit exceeded."),
        "s3" => error(service, 503, "SlowDown", "Please reduce your request rate."),
        "ssm" | "dynamodb" => error(service, 400, "ThrottlingException", "Rate exceeded"),
        _ => error(service, 400, "Throttling", "Rate exceeded"),
    }
}

/// A service's response to expired temporary credentials; for the sources see [`error`]. EC2 has its own code for it.
pub fn expired_token(service: &str) -> Reply {
    const MESSAGE: &str = "The security token included in the request is expired";
    match service {
        "ec2" => error(service, 400, "RequestExpired", "Request has expired."),
        "s3" => error(service, 400, "ExpiredToken", "The provided token has expired."),
        "ssm" | "dynamodb" => error(service, 400, "ExpiredTokenException", MESSAGE),
        _ => error(service, 403, "ExpiredToken", MESSAGE),
    }
}

/// A stack in [`describe_stacks`].
#[derive(Debug, Clone)]
pub struct Stack {
    /// `StackName`
    pub name: String,
    /// `StackId`, an ARN.
    pub id: String,
    /// `StackStatus`: `CREATE_COMPLETE`, `ROLLBACK_COMPLETE`, `DELETE_FAILED`, …
    pub status: String,
    /// `StackStatusReason`
    pub reason: Option<String>,
    /// `Outputs`: key, value.
    pub outputs: Vec<(String, String)>,
    /// `Tags`: key, value.
    pub tags: Vec<(String, String)>,
}

impl Stack {
    /// A stack with an ARN derived from its name, and nothing else.
    pub fn new(name: &str, status: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: stack_id(name),
            status: status.to_owned(),
            reason: None,
            outputs: Vec::new(),
            tags: Vec::new(),
        }
    }

    fn xml(&self) -> String {
        let pairs = |list: &[(String, String)], key: &str, value: &str| -> String {
            let pair = |(k, v): &(String, String)| {
                format!("<member>{}{}</member>", element(key, k), element(value, v))
            };
            list.iter().map(pair).collect()
        };
        let fields = [
            element("StackName", &self.name),
            element("StackId", &self.id),
            element("CreationTime", "2025-01-15T10:30:00.000Z"),
            element("StackStatus", &self.status),
            optional("StackStatusReason", self.reason.as_deref()),
            element("DisableRollback", "false"),
            format!("<Outputs>{}</Outputs>", pairs(&self.outputs, "OutputKey", "OutputValue")),
            format!("<Tags>{}</Tags>", pairs(&self.tags, "Key", "Value")),
        ];
        format!("<member>{}</member>", fields.concat())
    }
}

/// The ARN of [`Stack::new`] and [`StackEvent::new`] for a stack with this name.
pub fn stack_id(name: &str) -> String {
    format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{name}/c1b8f4e0-d35a-11ef-9c2a-example")
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html>
pub fn describe_stacks(stacks: &[Stack]) -> Reply {
    let stacks: String = stacks.iter().map(Stack::xml).collect();
    cloudformation("DescribeStacks", &format!("<Stacks>{stacks}</Stacks>"))
}

/// The `DescribeStacks` response for a nonexistent stack: an error, not an empty list.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html>
pub fn no_such_stack(name: &str) -> Reply {
    error("cloudformation", 400, "ValidationError", &format!("Stack with id {name} does not exist"))
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html>
pub fn create_stack(id: &str) -> Reply {
    cloudformation("CreateStack", &element("StackId", id))
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DeleteStack.html>
pub fn delete_stack() -> Reply {
    let metadata = format!("<ResponseMetadata>{}</ResponseMetadata>", element("RequestId", REQUEST_ID));
    Reply::xml(
        200,
        format!(r#"<DeleteStackResponse xmlns="{CLOUDFORMATION}">{metadata}</DeleteStackResponse>"#),
    )
}

/// An event in [`describe_stack_events`].
#[derive(Debug, Clone)]
pub struct StackEvent {
    /// `StackName`; `StackId` is derived from it.
    pub stack: String,
    /// `EventId`, unique.
    pub id: String,
    /// `LogicalResourceId`: a name in the template, or the stack's.
    pub logical_id: String,
    /// `PhysicalResourceId`, empty until the resource exists.
    pub physical_id: String,
    /// `ResourceType`: `AWS::EC2::Instance`, or `AWS::CloudFormation::Stack`.
    pub kind: String,
    /// `Timestamp`, RFC 3339 with milliseconds and `Z`.
    pub time: String,
    /// `ResourceStatus`: `CREATE_FAILED`, …
    pub status: String,
    /// `ResourceStatusReason`
    pub reason: Option<String>,
    /// `ClientRequestToken` of the call that caused it.
    pub token: Option<String>,
}

impl StackEvent {
    /// Event `number` of a stack, at that many seconds after 10:30.
    pub fn new(stack: &str, number: u32, (logical_id, kind): (&str, &str), status: &str) -> Self {
        Self {
            stack: stack.to_owned(),
            id: format!("{logical_id}-{status}-{number}"),
            logical_id: logical_id.to_owned(),
            physical_id: String::new(),
            kind: kind.to_owned(),
            time: format!("2025-01-15T10:{:02}:{:02}.000Z", 30 + number / 60, number % 60),
            status: status.to_owned(),
            reason: None,
            token: None,
        }
    }

    fn xml(&self) -> String {
        let fields = [
            element("StackId", &stack_id(&self.stack)),
            element("EventId", &self.id),
            element("StackName", &self.stack),
            element("LogicalResourceId", &self.logical_id),
            element("PhysicalResourceId", &self.physical_id),
            element("ResourceType", &self.kind),
            element("Timestamp", &self.time),
            element("ResourceStatus", &self.status),
            optional("ResourceStatusReason", self.reason.as_deref()),
            optional("ClientRequestToken", self.token.as_deref()),
        ];
        format!("<member>{}</member>", fields.concat())
    }
}

/// One page of events, newest first, in AWS's order; `next_token` means there is another page.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackEvents.html>
pub fn describe_stack_events(events: &[StackEvent], next_token: Option<&str>) -> Reply {
    let events: String = events.iter().map(StackEvent::xml).collect();
    let next_token = optional("NextToken", next_token);
    cloudformation("DescribeStackEvents", &format!("<StackEvents>{events}</StackEvents>{next_token}"))
}

/// A resource that a change set modifies.
#[derive(Debug, Clone)]
pub struct PlannedChange {
    /// `LogicalResourceId`
    pub logical_id: &'static str,
    /// `ResourceType`
    pub kind: &'static str,
    /// `Replacement`: `True`, `False` or `Conditional`.
    pub replacement: &'static str,
    /// The changed properties, each with its `RequiresRecreation`: `Never`, `Conditionally` or `Always`.
    pub properties: Vec<(&'static str, &'static str)>,
}

impl PlannedChange {
    fn xml(&self) -> String {
        let detail = |(name, recreation): &(&str, &str)| {
            let target = element("Attribute", "Properties")
                + &element("Name", name)
                + &element("RequiresRecreation", recreation);
            let source = element("Evaluation", "Static") + &element("ChangeSource", "DirectModification");
            format!("<member><Target>{target}</Target>{source}</member>")
        };
        let fields = [
            element("Action", "Modify"),
            element("LogicalResourceId", self.logical_id),
            element("ResourceType", self.kind),
            element("Replacement", self.replacement),
            format!("<Details>{}</Details>", self.properties.iter().map(detail).collect::<String>()),
        ];
        let change = format!("<ResourceChange>{}</ResourceChange>", fields.concat());
        format!("<member>{}{change}</member>", element("Type", "Resource"))
    }
}

/// One page of a change set that can be executed; `next_token` means there is another page.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeChangeSet.html>
pub fn describe_change_set(changes: &[PlannedChange], next_token: Option<&str>) -> Reply {
    let changes: String = changes.iter().map(PlannedChange::xml).collect();
    let fields = [
        element("ExecutionStatus", "AVAILABLE"),
        element("Status", "CREATE_COMPLETE"),
        format!("<Changes>{changes}</Changes>"),
        optional("NextToken", next_token),
    ];
    cloudformation("DescribeChangeSet", &fields.concat())
}

/// The [`describe_change_set`] response for one that can't be executed, or not yet: `FAILED`, `CREATE_IN_PROGRESS`, …
pub fn describe_unusable_change_set(status: &str, reason: &str) -> Reply {
    let fields = [
        element("ExecutionStatus", "UNAVAILABLE"),
        element("Status", status),
        element("StatusReason", reason),
    ];
    cloudformation("DescribeChangeSet", &fields.concat())
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ExecuteChangeSet.html>
pub fn execute_change_set() -> Reply {
    cloudformation("ExecuteChangeSet", "")
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumesModifications.html>
pub fn describe_volumes_modifications(state: &str, target_gib: u32, message: Option<&str>) -> Reply {
    let fields = [
        element("volumeId", "vol-0abc0abc"),
        element("modificationState", state),
        optional("statusMessage", message),
        element("targetSize", &target_gib.to_string()),
        element("startTime", "2025-01-15T10:30:00.000Z"),
    ];
    let set = format!("<volumeModificationSet><item>{}</item></volumeModificationSet>", fields.concat());
    ec2("DescribeVolumesModifications", &set)
}

/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetHostedZone.html>
pub fn hosted_zone(id: &str, name: &str, is_private: bool) -> Reply {
    let config = format!("<Config>{}</Config>", element("PrivateZone", &is_private.to_string()));
    let fields = [
        element("Id", &format!("/hostedzone/{id}")),
        element("Name", name),
        element("CallerReference", "myUniqueIdentifier"),
        config,
        element("ResourceRecordSetCount", "2"),
    ];
    let xmlns = "https://route53.amazonaws.com/doc/2013-04-01/";
    Reply::xml(
        200,
        format!(
            r#"<GetHostedZoneResponse xmlns="{xmlns}"><HostedZone>{}</HostedZone></GetHostedZoneResponse>"#,
            fields.concat()
        ),
    )
}

/// An AMI in [`describe_images`].
#[derive(Debug, Clone)]
pub struct Image {
    /// `imageId`
    pub id: String,
    /// `imageState`: `available`, `pending`, `failed`, `deregistered`, `disabled`, …
    pub state: String,
    /// `stateReason`'s message.
    pub state_reason: Option<String>,
    /// `architecture`
    pub architecture: String,
    /// `platform`: `windows` or absent.
    pub platform: Option<String>,
    /// `rootDeviceType`: `ebs` or `instance-store`.
    pub root_device_type: String,
    /// `rootDeviceName`
    pub root_device_name: String,
    /// `virtualizationType`
    pub virtualization_type: String,
    /// The size of the snapshot of its root volume, in GiB.
    pub root_gib: u32,
    /// `deprecationTime`, RFC 3339.
    pub deprecation_time: Option<String>,
    /// `imageOwnerId`: an account.
    pub owner: String,
    /// `creationDate`, RFC 3339.
    pub creation_date: String,
}

impl Image {
    /// A current Linux AMI for x86_64, with 8G.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: "available".to_owned(),
            state_reason: None,
            architecture: "x86_64".to_owned(),
            platform: None,
            root_device_type: "ebs".to_owned(),
            root_device_name: "/dev/sda1".to_owned(),
            virtualization_type: "hvm".to_owned(),
            root_gib: 8,
            deprecation_time: None,
            owner: "123456789012".to_owned(),
            creation_date: "2026-01-15T10:30:00.000Z".to_owned(),
        }
    }

    fn xml(&self) -> String {
        let ebs = element("snapshotId", "snap-0123456789abcdef0")
            + &element("volumeSize", &self.root_gib.to_string())
            + &element("volumeType", "gp2");
        let mapping = element("deviceName", &self.root_device_name) + &format!("<ebs>{ebs}</ebs>");
        let reason = self.state_reason.as_deref().map(|reason| element("message", reason));
        let fields = [
            element("imageId", &self.id),
            element("imageState", &self.state),
            reason.map(|reason| format!("<stateReason>{reason}</stateReason>")).unwrap_or_default(),
            element("architecture", &self.architecture),
            optional("platform", self.platform.as_deref()),
            element("rootDeviceType", &self.root_device_type),
            element("rootDeviceName", &self.root_device_name),
            element("virtualizationType", &self.virtualization_type),
            format!("<blockDeviceMapping><item>{mapping}</item></blockDeviceMapping>"),
            optional("deprecationTime", self.deprecation_time.as_deref()),
            element("imageOwnerId", &self.owner),
            element("creationDate", &self.creation_date),
        ];
        format!("<item>{}</item>", fields.concat())
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html>
pub fn describe_images(images: &[Image]) -> Reply {
    let images: String = images.iter().map(Image::xml).collect();
    ec2("DescribeImages", &format!("<imagesSet>{images}</imagesSet>"))
}

/// An instance terminated by EC2, with the code of its `stateReason`.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
pub fn describe_ended_instance(id: &str, code: &str) -> Reply {
    let state = format!("<instanceState><code>48</code>{}</instanceState>", element("name", "terminated"));
    let reason = element("code", code) + &element("message", &format!("{code}: as the code says"));
    let instance = format!("{}{state}<stateReason>{reason}</stateReason>", element("instanceId", id));
    let reservation = format!("<item><instancesSet><item>{instance}</item></instancesSet></item>");
    ec2("DescribeInstances", &format!("<reservationSet>{reservation}</reservationSet>"))
}

/// One page of zones that offer an instance type; `next_token` means there is another page.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html>
pub fn describe_instance_type_offerings(
    instance_type: &str,
    zones: &[&str],
    next_token: Option<&str>,
) -> Reply {
    let offering = |zone: &&str| {
        let fields = [
            element("instanceType", instance_type),
            element("locationType", "availability-zone"),
            element("location", zone),
        ];
        format!("<item>{}</item>", fields.concat())
    };
    let offerings: String = zones.iter().map(offering).collect();
    let next_token = optional("nextToken", next_token);
    ec2(
        "DescribeInstanceTypeOfferings",
        &format!("<instanceTypeOfferingSet>{offerings}</instanceTypeOfferingSet>{next_token}"),
    )
}

fn ec2(action: &str, result: &str) -> Reply {
    let request = element("requestId", REQUEST_ID);
    Reply::xml(
        200,
        format!(
            r#"<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{request}{result}</{action}Response>"#
        ),
    )
}

fn cloudformation(action: &str, result: &str) -> Reply {
    let result = format!("<{action}Result>{result}</{action}Result>");
    let metadata = format!("<ResponseMetadata>{}</ResponseMetadata>", element("RequestId", REQUEST_ID));
    Reply::xml(
        200,
        format!(r#"<{action}Response xmlns="{CLOUDFORMATION}">{result}{metadata}</{action}Response>"#),
    )
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

fn optional(name: &str, text: Option<&str>) -> String {
    text.map(|text| element(name, text)).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
