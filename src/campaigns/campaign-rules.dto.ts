import { IsObject, IsUUID } from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { IsRecipient } from '../messages/message-rules.js';

/** How many recipients get no message, by the reason. */
export class PreflightLeftOut {
  /** Lines of the lists that name no recipient, or lack a variable. `GET /campaigns/:id/invalid.csv` has them. */
  invalid!: number;
  /** Lines of the lists with a person that the campaign had already. */
  duplicate!: number;
  /** Recipients without a variable that the message needs, because the message changed after the upload. */
  missingVariable!: number;
  /** Who has opted out, or must get no campaigns for another reason. */
  suppressed!: number;
  /** Persons who got a message of another campaign within `notWithinDays` of the campaign. */
  receivedRecently!: number;
  /** Recipients in countries where no moment is inside the sending times. */
  neverAllowed!: number;
}

export class PreflightAccount {
  accountId!: string;
  messages!: number;
  /** When its last message leaves. Null: it sends none, or nobody can tell. */
  end!: string | null;
  /** How many days' budgets its messages use up. 0 if the account is not paced. */
  budgetDays!: number;
}

/** An estimate: as if all accounts were ready and sent nothing else. */
export class PreflightEstimate {
  start!: string;
  /** When the last message leaves. Null: never, because budgets or sending times are closed for good. */
  end!: string | null;
  /** How many days' budgets of an account the campaign uses up, for all accounts together. */
  budgetDays!: number;
  accounts!: PreflightAccount[];
}

export class PreflightWarning {
  /**
   * `campaign.no_recipients`, `campaign.start_in_past`, `campaign.never_allowed`, `account.not_ready`, `account.warm_up`,
   * `account.cold_paused`, `text.identical`, `text.no_opt_out`, `text.link_shortener`, `text.long`, `text.capitals` or
   * `text.single_braces`.
   */
  code!: string;
  /** What the risk is, and what to do. */
  message!: string;
  /** Where the text is in the message, for example `media.caption`. */
  path!: string | null;
  accountId!: string | null;
}

export class PreflightResponse {
  /** How many recipients will get the message. */
  reached!: number;
  leftOut!: PreflightLeftOut;
  estimate!: PreflightEstimate;
  warnings!: PreflightWarning[];
}

export class TestCampaignDto {
  /** The phone number or chat id that gets the message. */
  @IsRecipient()
  to!: string;

  /** The values of variables. Default: those of the first recipient. */
  @Optional()
  @IsObject()
  variables?: Record<string, unknown>;

  /** Default: the first account of the campaign that is ready. */
  @Optional()
  @IsUUID()
  accountId?: string;
}

/** Each step counts those who got further too: who has read the message is also in `sent` and `delivered`. */
export class FunnelResponse {
  sent!: number;
  delivered!: number;
  read!: number;
  failed!: number;
}

export class CampaignFailures {
  /** The `error.code` of the messages. */
  code!: string;
  count!: number;
}

export class AccountFunnel extends FunnelResponse {
  accountId!: string;
}

export class VariantFunnel extends FunnelResponse {
  /** `A` is the first one. */
  variant!: string;
  share!: number;
}

export class CampaignStatsResponse {
  funnel!: FunnelResponse;
  /** Why messages failed or were left out, the most frequent reason first. */
  failures!: CampaignFailures[];
  accounts!: AccountFunnel[];
  /** Empty for a campaign without variants. */
  variants!: VariantFunnel[];
}
