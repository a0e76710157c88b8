//! Against a service that answers by a script.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use aws_config::Region;
use aws_credential_types::provider::future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SERVICE: Service =
    Service { name: "Route 53", prefix: "route53", global: true, fips_in_gov: false };
/// Nobody's clock can be near.
const DATE: &str = "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n";
/// A third of it is longer than the pause.
const TWICE: (u32, Duration) = (2, Duration::from_millis(3500));
const THROTTLED: &str = "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>";
const SKEWED: &str =
    "<ErrorResponse><Error><Code>RequestTimeTooSkewed</Code></Error></ErrorResponse>";
const DENIED: &str = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";

/// What comes of a request if the service gives these answers, one per connection (none: it
/// is silent), and what it heard.
async fn ask(
    answers: &[Option<(u16, &'static str)>],
    (attempts, timeout): (u32, Duration),
) -> (Result<Result<String, Refusal>, AwsError>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = answers.to_vec();
    let server = tokio::spawn(async move {
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.ends_with("<body/>") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap();
                request.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
            heard.push(request);
            let Some((status, body)) = answer else {
                silent.push(stream);
                continue;
            };
            let length = body.len();
            let date = if body == SKEWED { DATE } else { "" };
            let head = format!("HTTP/1.1 {status} -\r\n{date}Content-Length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
        (heard, silent)
    });
    let config = SdkConfig::builder()
        .region(Region::new("ap-northeast-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials(None)))
        .build();
    let caller = OnceCell::new_with(Some(Box::new(Caller::new(SERVICE, &config).unwrap())));
    let api = Api { service: SERVICE, timeout, attempts, caller };
    let answer = api.ask(&Request::xml("/a?b=c%2Ed".into(), "<body/>".into())).await;
    (answer, server.await.unwrap().0)
}

fn credentials(end: Option<SystemTime>) -> Credentials {
    let mut credentials = Credentials::builder();
    credentials.set_expiry(end);
    credentials
        .access_key_id("AKID")
        .secret_access_key("secret")
        .session_token("token")
        .provider_name("tests")
        .build()
}

/// Counts how often it is asked for credentials, which end after that time.
#[derive(Debug)]
struct Counting {
    asked: Arc<AtomicU32>,
    end: Option<Duration>,
}

impl ProvideCredentials for Counting {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let end = self.end.map(|end| SystemTime::now() + end);
        future::ProvideCredentials::ready(Ok(credentials(end)))
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value)
}

#[tokio::test]
async fn a_request_is_signed_for_the_region_of_the_service() {
    let (answer, heard) = ask(&[Some((200, "<fine/>"))], TWICE).await;
    assert_eq!(answer.unwrap().unwrap(), "<fine/>");
    let [request] = &heard[..] else { panic!("{heard:?}") };
    assert!(request.starts_with("POST /a?b=c%2Ed HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "content-type"), Some("application/xml"));
    assert_eq!(header(request, "x-amz-security-token"), Some("token"));
    let signature = header(request, "authorization").unwrap();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{signature}");
    assert!(signature.contains("/us-east-1/route53/aws4_request, "), "{signature}");
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, ";
    assert!(signature.contains(signed), "{signature}");
}

#[tokio::test]
async fn what_may_pass_is_sent_again() {
    for first in [Some((400, THROTTLED)), Some((503, "")), None] {
        let (answer, heard) = ask(&[first, Some((200, ""))], TWICE).await;
        assert_eq!(answer.unwrap().unwrap(), "", "{first:?}");
        assert_eq!(heard.len(), 2);
    }
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    for (answer, attempts, code) in
        [((403, DENIED), TWICE, "AccessDenied"), ((503, "<html>"), (1, TWICE.1), "HTTP 503")]
    {
        let (refused, _) = ask(&[Some(answer)], attempts).await;
        let refused = refused.unwrap().unwrap_err().into_error();
        assert_eq!((refused.code(), refused.status()), (Some(code), Some(answer.0)));
    }
    let (twice, _) = ask(&[Some((400, THROTTLED)), Some((400, THROTTLED))], TWICE).await;
    assert_eq!(twice.unwrap().unwrap_err().code, "Throttling");
}

#[tokio::test]
async fn a_wrong_clock_is_found_out_and_made_up_for() {
    let (answer, heard) = ask(&[Some((403, SKEWED)), Some((200, ""))], TWICE).await;
    assert_eq!(answer.unwrap().unwrap(), "");
    let second = header(&heard[1], "x-amz-date").unwrap();
    assert!(second.starts_with("19941115T08"), "{second}");
}

#[tokio::test]
async fn silence_ends_in_time() {
    let (answer, _) = ask(&[None], (1, Duration::from_millis(100))).await;
    assert_eq!(answer.unwrap_err().to_string(), "Route 53 cannot be asked: no answer in time");
}

#[tokio::test]
async fn credentials_are_kept_until_shortly_before_their_end() {
    let (short, long) = (Duration::from_secs(30), Duration::from_secs(600));
    for (end, expected) in [(Some(long), 1), (Some(short), 3), (None, 3)] {
        let asked = Arc::<AtomicU32>::default();
        let provider = Counting { asked: Arc::clone(&asked), end };
        let config = SdkConfig::builder()
            .region(Region::new("ap-northeast-1"))
            .credentials_provider(SharedCredentialsProvider::new(provider))
            .build();
        let caller = Caller::new(SERVICE, &config).unwrap();
        for _ in 0..3 {
            caller.credentials().await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), expected, "{end:?}");
    }
}
