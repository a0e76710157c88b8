//! Where services of AWS are, by the rules that the SDKs have for them.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    /// Its name, for people and in settings: `Route 53` has `AWS_ENDPOINT_URL_ROUTE_53`.
    pub(super) name: &'static str,
    /// Its name in host names and signatures.
    pub(super) prefix: &'static str,
    /// Whether there is one of it for all regions of a partition.
    pub(super) global: bool,
    /// Whether names for FIPS are others in us-gov- regions, too, and not those that there are anyway.
    pub(super) fips_in_gov: bool,
}

/// Where a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Without a slash at its end.
    pub(super) url: String,
    /// The region that requests are signed for.
    pub(super) region: String,
}

/// Regions with domains of their own.
#[derive(Debug)]
struct Partition {
    /// How the names of its regions start.
    regions: &'static str,
    domain: &'static str,
    /// Names under it have addresses of IPv6, too.
    dual_stack_domain: &'static str,
    /// Where its global services are.
    home: &'static str,
    /// What stands before these domains in the names of its global services.
    global: [&'static str; 2],
    /// Whether its endpoints with FIPS 140 have names of their own.
    fips: bool,
}

/// Those that are not most of the world.
const PARTITIONS: [Partition; 7] = [
    Partition {
        regions: "cn-",
        domain: "amazonaws.com.cn",
        dual_stack_domain: "api.amazonwebservices.com.cn",
        home: "cn-northwest-1",
        ..AWS
    },
    Partition {
        regions: "us-gov-",
        home: "us-gov-west-1",
        global: ["us-gov.", "us-gov."],
        fips: false,
        ..AWS
    },
    Partition {
        regions: "eusc-",
        domain: "amazonaws.eu",
        dual_stack_domain: "api.amazonwebservices.eu",
        home: "eusc-de-east-1",
        ..AWS
    },
    Partition {
        regions: "us-iso-",
        domain: "c2s.ic.gov",
        dual_stack_domain: "api.aws.ic.gov",
        home: "us-iso-east-1",
        ..ISOLATED
    },
    Partition {
        regions: "us-isob-",
        domain: "sc2s.sgov.gov",
        dual_stack_domain: "api.aws.scloud",
        home: "us-isob-east-1",
        ..ISOLATED
    },
    Partition {
        regions: "us-isof-",
        domain: "csp.hci.ic.gov",
        dual_stack_domain: "api.aws.hci.ic.gov",
        home: "us-isof-south-1",
        ..ISOLATED
    },
    Partition {
        regions: "eu-isoe-",
        domain: "cloud.adc-e.uk",
        dual_stack_domain: "api.cloud-aws.adc-e.uk",
        home: "eu-isoe-west-1",
        ..ISOLATED
    },
];
const AWS: Partition = Partition {
    regions: "",
    domain: "amazonaws.com",
    dual_stack_domain: "api.aws",
    home: "us-east-1",
    global: ["", "global."],
    fips: true,
};
const ISOLATED: Partition = Partition { global: ["", ""], ..AWS };

// === impl Endpoint ===

impl Endpoint {
    /// The endpoint that the environment or the profile names for this service or for all of them,
    /// or else AWS's own.
    pub(super) fn of(service: Service, config: &SdkConfig) -> Option<Self> {
        let region = config.region()?.as_ref();
        let key = ServiceConfigKey::builder();
        let key = key.service_id(service.name).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        let own = config.service_config().zip(key.build().ok());
        let own = own.and_then(|(settings, key)| settings.load_config(key));
        let url = own.or_else(|| config.endpoint_url().map(str::to_owned));
        let dual_stack = config.use_dual_stack().unwrap_or(false);
        let fips = config.use_fips().unwrap_or(false);
        let aws = Self::in_aws(service, region, dual_stack, fips);
        Some(match url.filter(|url| !url.is_empty()) {
            Some(url) => Self { url: url.trim_end_matches('/').into(), ..aws },
            None => aws,
        })
    }

    fn in_aws(service: Service, region: &str, dual_stack: bool, fips: bool) -> Self {
        let partition = PARTITIONS.iter().find(|one| region.starts_with(one.regions));
        let partition = partition.unwrap_or(&AWS);
        let [plain, dual] = partition.global;
        let (global, domain) = if dual_stack {
            (dual, partition.dual_stack_domain)
        } else {
            (plain, partition.domain)
        };
        let prefix = service.prefix;
        let fips = if fips && (partition.fips || service.fips_in_gov) { "-fips" } else { "" };
        if service.global {
            let url = format!("https://{prefix}{fips}.{global}{domain}");
            Self { url, region: partition.home.into() }
        } else {
            let url = format!("https://{prefix}{fips}.{region}.{domain}");
            Self { url, region: region.into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    const CLOUDWATCH: Service =
        Service { name: "CloudWatch", prefix: "monitoring", global: false, fips_in_gov: false };
    const ROUTE_53: Service =
        Service { name: "Route 53", prefix: "route53", global: true, fips_in_gov: false };
    const SECRETS: Service = Service {
        name: "Secrets Manager",
        prefix: "secretsmanager",
        global: false,
        fips_in_gov: true,
    };

    /// As the SDKs' endpoint rules have them.
    #[test]
    fn every_partition_has_its_own_names() {
        for (service, region, dual_stack, fips, url, signed) in [
            (CLOUDWATCH, "eu-west-1", false, false, "monitoring.eu-west-1.amazonaws.com", None),
            (CLOUDWATCH, "eu-west-1", false, true, "monitoring-fips.eu-west-1.amazonaws.com", None),
            (CLOUDWATCH, "eu-west-1", true, false, "monitoring.eu-west-1.api.aws", None),
            (
                CLOUDWATCH,
                "cn-north-1",
                false,
                false,
                "monitoring.cn-north-1.amazonaws.com.cn",
                None,
            ),
            (
                CLOUDWATCH,
                "us-gov-west-1",
                false,
                true,
                "monitoring.us-gov-west-1.amazonaws.com",
                None,
            ),
            (
                CLOUDWATCH,
                "us-isob-east-1",
                false,
                false,
                "monitoring.us-isob-east-1.sc2s.sgov.gov",
                None,
            ),
            (
                SECRETS,
                "us-gov-west-1",
                false,
                true,
                "secretsmanager-fips.us-gov-west-1.amazonaws.com",
                None,
            ),
            (ROUTE_53, "ap-northeast-1", false, false, "route53.amazonaws.com", Some("us-east-1")),
            (ROUTE_53, "us-west-2", false, true, "route53-fips.amazonaws.com", Some("us-east-1")),
            (ROUTE_53, "us-west-2", true, false, "route53.global.api.aws", Some("us-east-1")),
            (
                ROUTE_53,
                "cn-north-1",
                false,
                false,
                "route53.amazonaws.com.cn",
                Some("cn-northwest-1"),
            ),
            (
                ROUTE_53,
                "us-gov-east-1",
                false,
                true,
                "route53.us-gov.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                ROUTE_53,
                "us-gov-east-1",
                true,
                false,
                "route53.us-gov.api.aws",
                Some("us-gov-west-1"),
            ),
            (
                ROUTE_53,
                "eusc-de-east-1",
                false,
                false,
                "route53.amazonaws.eu",
                Some("eusc-de-east-1"),
            ),
            (
                ROUTE_53,
                "us-iso-west-1",
                true,
                false,
                "route53.api.aws.ic.gov",
                Some("us-iso-east-1"),
            ),
        ] {
            let found = Endpoint::in_aws(service, region, dual_stack, fips);
            let expected =
                Endpoint { url: format!("https://{url}"), region: signed.unwrap_or(region).into() };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn another_endpoint_is_asked_but_signed_for_the_same_region() {
        let config = SdkConfig::builder().region(Region::new("eu-west-1"));
        let config = config.endpoint_url("http://127.0.0.1:5000/").build();
        let found = Endpoint::of(ROUTE_53, &config);
        let url = "http://127.0.0.1:5000".into();
        assert_eq!(found, Some(Endpoint { url, region: "us-east-1".into() }));
        assert_eq!(Endpoint::of(ROUTE_53, &SdkConfig::builder().build()), None);
    }
}
